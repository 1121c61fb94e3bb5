"""The reference, made from the code: settings, commands, the HTTP API and the Python names.

Each function returns Markdown. `pages` returns all of it, by the paths that it has in the site.
"""

import importlib.util
import inspect
import json
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

import pickguard
from pickguard import Services, Settings
from pickguard.entrypoints.cli import cli
from pickguard.entrypoints.http.openapi import openapi_document
from pickguard.entrypoints.http.problems import TYPES
from pickguard.entrypoints.settings import Option, options, show_value

FOLDER: Final = "reference"
SOURCE: Final = Path(pickguard.__file__).parent

GROUPS: Final = (
    ("Mail", ("mail", "public_url", "service_name", "verification", "reset")),
    ("Who may register, and with what password", ("registration", "profile", "password", "breach")),
    ("Limits", ("rate_limits", "limit")),
    ("Sessions", ("session", "reauthentication")),
    ("Hashing", ("hash",)),
    ("The store", ("store", "sentinel", "wait", "strict", "data_dir", "engine")),
    ("Log", ("log", "access_log")),
    ("Administration and monitoring", ("admin", "metrics", "otel", "trace")),
)
"""How settings are grouped: by how their names begin. What begins otherwise comes first."""
FIRST: Final = "Serving"


def pages() -> dict[str, str]:
    """Return every page of the reference, by its path in the site."""
    found = {f"{FOLDER}/configuration.md": configuration(), f"{FOLDER}/cli.md": command_line(cli)}
    found[f"{FOLDER}/http.md"] = http(openapi())
    found[f"{FOLDER}/problems.md"] = problems()
    for name, text in python():
        found[f"{FOLDER}/python/{name}.md"] = text
    return found


# Settings.


def configuration() -> str:
    """Return the page of all settings."""
    grouped: dict[str, list[Option]] = {title: [] for title in (FIRST, *(title for title, _ in GROUPS))}
    for each in options():
        grouped[_group(each.name)].append(each)
    lines = [
        "# Configuration",
        "",
        "Every setting of `pickguard serve`, as an option and as a variable of the environment. The option takes precedence.",
        "",
    ]
    for title, members in grouped.items():
        if members:
            lines += [f"## {title}", "", *(line for each in members for line in _setting(each))]
    return "\n".join(lines)


def _group(name: str) -> str:
    for title, beginnings in GROUPS:
        if any(name == each or name.startswith(f"{each}_") for each in beginnings):
            return title
    return FIRST


def _setting(each: Option) -> Iterator[str]:
    shown = each.flag if each.is_switch or each.in_environment_only else f"{each.flag} {each.metavar}"
    yield f"### `{shown}` {{ #{each.name.replace('_', '-')} }}"
    yield ""
    yield _prose(each.help)
    yield ""
    if not each.in_environment_only:
        yield f"- Variable: `{each.variable}`"
    else:
        yield "- A variable only: an option could be seen in the list of processes"
    if default := _default(each):
        yield f"- Default: `{default}`"
    yield ""


def _default(each: Option) -> str:
    value = getattr(Settings(), each.name)
    if value is None or value in ("", ()):
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return show_value(value)


def _prose(text: str) -> str:
    """Return plain text as Markdown that shows it as it is; words that are code become code, and what is so already stays."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part.replace("|", "\\|") if number % 2 else _escaped(part) for number, part in enumerate(parts))


def _escaped(text: str) -> str:
    escaped = re.sub(r"([\\`*_<>\[\]|])", r"\\\1", text)
    return re.sub(r"(?<![\w`-])(--[a-z][a-z0-9-]*|PICKGUARD(?:\\_[A-Z0-9]+)+)", _as_code, escaped)


def _as_code(match: re.Match[str]) -> str:
    return "`" + match[0].replace("\\_", "_") + "`"


# The command line.


def command_line(root: click.Group) -> str:
    """Return the page of all commands, as their own help tells them."""
    lines = ["# Command line", "", *_command(root, None, "pickguard", 2)]
    return "\n".join(lines)


def _command(command: click.Command, parent: click.Context | None, name: str, depth: int) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    if parent is not None:
        yield f"{'#' * min(depth, 6)} `{context.command_path}`"
        yield ""
    yield from _help(command.help or "")
    yield "```text"
    yield " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield "```"
    yield ""
    yield from _parameters(command, context)
    yield from _help(command.epilog or "")
    if examples := getattr(command, "examples", None):
        yield from ("```sh", *examples, "```", "")
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None and not found.hidden:
                yield from _command(found, context, below, depth if parent is None else depth + 1)


def _help(text: str) -> Iterator[str]:
    r"""Return the help of a command: its paragraphs, and those after \b as they stand."""
    text = inspect.cleandoc(text)
    for paragraph in re.split(r"\n\s*\n", text.partition("\f")[0].strip()):
        if paragraph.startswith("\b"):
            yield from ("```text", paragraph.removeprefix("\b").strip("\n"), "```", "")
        elif paragraph:
            yield from (_prose(" ".join(paragraph.split())), "")


def _parameters(command: click.Command, context: click.Context) -> Iterator[str]:
    settings = {each.flag: each for each in options()}
    rows: list[tuple[str, str]] = []
    shared: list[str] = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        flag = next((each for each in parameter.opts if each in settings), None)
        if flag is not None and isinstance(parameter, click.Option):
            shared.append(f"[`{flag}`](configuration.md#{settings[flag].name.replace('_', '-')})")
        elif record is not None and not (isinstance(parameter, click.Option) and parameter.hidden):
            rows.append(record)
    if rows:
        yield "| Option | What it does |"
        yield "| --- | --- |"
        for option, text in rows:
            yield f"| `{option.replace('|', chr(92) + '|')}` | {_prose(text)} |"
        yield ""
    if shared:
        yield f"Settings that it takes as well: {', '.join(shared)}."
        yield ""


# HTTP.


def openapi() -> Mapping[str, Any]:
    """Return the OpenAPI document of a service with mail."""
    return openapi_document(Settings(mail="console:"))


def problems() -> str:
    """Return the page of all types of problems, which a running service explains at their paths."""
    lines = [
        "# Problems",
        "",
        "Every error of the HTTP API is a problem of RFC 9457. Its `type` is the path of one of these.",
        "",
    ]
    for slug, kind in TYPES.items():
        lines += [f"## `/problems/{slug}` {{ #{slug} }}", "", f"**{kind.status}**: {kind.title}.", "", kind.explanation, ""]
    return "\n".join(lines)


def http(document: Mapping[str, Any]) -> str:
    """Return the page of an OpenAPI document."""
    return _PROBLEM.sub(r"](problems.md#\1)", "\n".join(_Http(document).lines()))


_PROBLEM = re.compile(r"\]\(problems/([a-z-]+)\)")
"""Links in descriptions are seen from where the document is served."""


METHODS: Final = ("get", "post", "put", "patch", "delete")


class _Http:
    """Writes an OpenAPI 3.1 document as Markdown: operations by their tags, then the schemas that they share."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def lines(self) -> Iterator[str]:
        yield "# HTTP API"
        yield ""
        yield "Every request that the service takes, made from its own OpenAPI document, which a running one serves at "
        yield "`/openapi.json`."
        yield ""
        for tag, description in self._tags().items():
            yield f"## {tag}"
            yield ""
            if description:
                yield description
                yield ""
            for method, path, operation in self._operations(tag):
                yield from self._operation(method, path, operation)
        if schemas := self._document.get("components", {}).get("schemas"):
            yield "## Schemas"
            yield ""
            for name, schema in schemas.items():
                yield f"### {name}"
                yield ""
                yield from self._schema(schema)

    def _tags(self) -> dict[str, str]:
        found = {each["name"]: each.get("description", "") for each in self._document.get("tags", ())}
        for _, _, operation in self._all():
            found.setdefault(self._tag(operation), "")
        return found

    @staticmethod
    def _tag(operation: Mapping[str, Any]) -> str:
        return next(iter(operation.get("tags", ())), "Other")

    def _all(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        for path, item in self._document.get("paths", {}).items():
            for method in METHODS:
                if method in item:
                    shared = [*item.get("parameters", ()), *item[method].get("parameters", ())]
                    yield method.upper(), path, {**item[method], "parameters": shared}

    def _operations(self, tag: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        yield from (each for each in self._all() if self._tag(each[2]) == tag)

    def _operation(self, method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
        yield f"### `{method} {path}`"
        yield ""
        for text in (operation.get("summary"), operation.get("description")):
            if text:
                yield f"**{text}**" if text == operation.get("summary") else text
                yield ""
        if "security" in operation or "security" in self._document:
            asked = operation.get("security", self._document.get("security", []))
            names = sorted({name for each in asked for name in each})
            yield f"Needs: {', '.join(names)}." if names else "Needs no log-in."
            yield ""
        if parameters := [self._resolved(each) for each in operation["parameters"]]:
            yield "| Parameter | In | What it is |"
            yield "| --- | --- | --- |"
            for each in parameters:
                required = " (required)" if each.get("required") else ""
                kind = self._kind(each.get("schema", {}))
                yield f"| `{each['name']}`{required} | {each['in']} | {_cell(each.get('description', ''))} {kind} |"
            yield ""
        if body := operation.get("requestBody"):
            yield from self._content("The body", self._resolved(body))
        yield "| Status | What it means | Body |"
        yield "| --- | --- | --- |"
        for status, given in operation.get("responses", {}).items():
            response = self._resolved(given)
            yield f"| {status} | {_cell(response.get('description', ''))} | {self._media(response)} |"
        yield ""

    def _content(self, title: str, holder: Mapping[str, Any]) -> Iterator[str]:
        for media, content in holder.get("content", {}).items():
            yield f"{title}, `{media}`: {self._kind(content.get('schema', {}))}"
            yield ""
            example = content.get("example", next((each.get("value") for each in content.get("examples", {}).values()), None))
            if example is not None:
                yield from ("```json", json.dumps(example, indent=2, ensure_ascii=False), "```", "")

    def _media(self, response: Mapping[str, Any]) -> str:
        kinds = (self._kind(each.get("schema", {})) or f"`{media}`" for media, each in response.get("content", {}).items())
        return ", ".join(dict.fromkeys(kinds))

    def _resolved(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in value:
            found: Any = self._document
            for part in value["$ref"].removeprefix("#/").split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]
            value = found
        return value

    def _kind(self, schema: Mapping[str, Any]) -> str:
        """Return in a few words what a value is."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        for joint in ("oneOf", "anyOf", "allOf"):
            if joint in schema:
                parts = (self._kind(each) for each in schema[joint])
                return (" and " if joint == "allOf" else " or ").join(part for part in parts if part)
        if "const" in schema:
            return f"`{json.dumps(schema['const'])}`"
        if "enum" in schema:
            return ", ".join(f"`{each}`" for each in schema["enum"])
        kind = schema.get("type", "")
        kinds = [kind] if isinstance(kind, str) else list(kind)
        if kinds == ["array"]:
            return f"list of {self._kind(schema.get('items', {}))}"
        words = " or ".join(each for each in kinds if each)
        return f"{words} ({schema['format']})" if "format" in schema else words

    def _schema(self, schema: Mapping[str, Any]) -> Iterator[str]:
        if text := schema.get("description"):
            yield text
            yield ""
        members = schema.get("properties")
        if not members:
            yield self._kind(schema)
            yield ""
            return
        yield "| Member | Type | What it is |"
        yield "| --- | --- | --- |"
        required = schema.get("required", ())
        for name, member in members.items():
            optional = "" if name in required else " (optional)"
            described = member.get("description") or (self._resolved(member).get("title", "") if "$ref" in member else "")
            yield f"| `{name}`{optional} | {self._kind(member)} | {_cell(described)} |"
        yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# Python.

NAMES: Final = {
    "pickguard.client": "The typed client of the HTTP API.",
    "pickguard.aiohttp": "Requests that authenticate in an aiohttp application of yours.",
    "pickguard.asgi": "Requests that authenticate in Starlette, FastAPI and whatever else speaks ASGI.",
    "pickguard.testing": "Tests of services that stand on this one.",
}
"""Packages for other programs, in the order that they are shown in, and what each is for."""


def python() -> Iterator[tuple[str, str]]:
    """Return of each page of Python names the name of the page and its text."""
    yield (
        "pickguard",
        _python("pickguard", "What a program imports: `from pickguard import open_services, Settings`.", ["pickguard"]),
    )
    yield (
        "use-cases",
        _python("Use cases", "What `Services` holds: every one of them is what a request of the HTTP API calls.", use_cases()),
    )
    yield (
        "ports",
        _python("Ports", "What the core needs of the world. An adapter fits by its shape, and subclasses nothing.", ports()),
    )
    for name, text in NAMES.items():
        if importlib.util.find_spec(name) is not None:
            yield name.rpartition(".")[2], _python(name, text, [name])


def _python(title: str, text: str, names: Iterable[str]) -> str:
    return "\n".join([f"# {title}", "", text, "", *(f"::: {name}\n" for name in names)])


def use_cases() -> Iterator[str]:
    """Return the classes of what `Services` holds, use cases only."""
    for kind in typing.get_type_hints(Services).values():
        (one,) = [each for each in (typing.get_args(kind) or (kind,)) if each is not type(None)]
        if one.__module__.startswith("pickguard.domain.services"):
            yield f"{one.__module__}.{one.__qualname__}"


def ports() -> Iterator[str]:
    """Return the modules of ports."""
    for path in sorted((SOURCE / "ports").glob("*.py")):
        if path.stem != "__init__":
            yield f"pickguard.ports.{path.stem}"
