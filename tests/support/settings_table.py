"""The README's table of settings: run ``python -m tests.support.settings_table`` for the one that belongs there."""

import sys
from collections.abc import Iterator

from pickguard import Settings
from pickguard.entrypoints.settings import Option, options, show_value


def settings_table() -> str:
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "| Option | Variable | Default | What it is |"
    yield "| --- | --- | --- | --- |"
    for each in options():
        flag = each.flag if each.is_switch else f"{each.flag} {each.metavar}"
        shown = "" if each.in_environment_only else _code(flag)
        yield f"| {shown} | {_code(each.variable)} | {_default(each)} | {_escaped(each.help)} |"


def _default(each: Option) -> str:
    value = getattr(Settings(), each.name)
    if value is None or value in ("", ()):
        return ""
    if isinstance(value, bool):
        return _code("on" if value else "off")
    return _code(show_value(value))


def _code(text: str) -> str:
    return f"`{_escaped(text)}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(f"{settings_table()}\n")
