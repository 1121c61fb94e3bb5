"""Holds answers to the API's description: status, problem, headers and body. What is not described is a failure."""

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from jsonschema import Draft202012Validator, FormatChecker
from multidict import CIMultiDictProxy
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from pickguard.entrypoints.http.openapi import openapi_document
from pickguard.entrypoints.settings import Settings

DOCUMENT: Final = "urn:openapi"
OF_HTTP: Final = {"content-type", "content-length", "date", "connection", "keep-alive", "transfer-encoding"}
"""Headers of the protocol, which no description of an API has."""
OF_ANY_REQUEST: Final = {"malformed-request", "target-too-long", "expectation-failed", "headers-too-large"}
PARAMETER: Final = re.compile(r"[^{}]+")
"""What aiohttp takes for a parameter once it is decoded: a slash in it was sent as ``%2F``."""
Line = tuple[str, str]
"""A method and a path, as the description has them."""


class Description:
    """The description of a service, to compare answers with."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._registry = Registry().with_resource(DOCUMENT, DRAFT202012.create_resource(document))
        self._validators: dict[str, Draft202012Validator] = {}

    def operations(self) -> Iterator[tuple[Line, dict[str, Any]]]:
        """Yield every operation."""
        for path, methods in self.document["paths"].items():
            for method, operation in methods.items():
                yield (method.upper(), path), operation

    def outcomes(self) -> set[tuple[Line, int, str]]:
        """Return every answer that is described: of which operation, its status, and which problem, if it is one."""
        return {
            (line, int(status), slug)
            for line, operation in self.operations()
            for status, response in operation["responses"].items()
            for slug in self.slugs(response)
        }

    def slugs(self, response: dict[str, Any]) -> list[str]:
        """Return the problems that a response can be; an empty text where it is none."""
        return [path.removeprefix("/problems/") for path in self.resolved(response).get("x-problems", ["/problems/"])]

    def resolved(self, found: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in found:
            target: Any = self.document
            for step in found["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            found = target
        return found

    def line_of(self, method: str, path: str) -> tuple[Line | None, bool]:
        """Return the operation of a request, and whether there is a resource at all."""
        wanted = [unquote(part) for part in path.split("/")]
        known = sorted(self.document["paths"], key=lambda each: "{" in each)
        template = next((each for each in known if _fits(each.split("/"), wanted)), None)
        if template is None:
            return None, False
        asked = "GET" if method == "HEAD" else method
        return ((asked, template) if asked.lower() in self.document["paths"][template] else None), True

    def check(
        self, method: str, path: str, *, status: int, headers: CIMultiDictProxy[str], body: bytes, sent: bytes | None = None
    ) -> None:
        """Assert that an answer to a request is one that is described."""
        line, is_there = self.line_of(method, path)
        if line is None:
            self._check_other(method, status, headers, body, missing="method-not-allowed" if is_there else "not-found")
            return
        operation = self.document["paths"][line[1]][line[0].lower()]
        assert str(status) in operation["responses"], f"{line} is not described with {status}: {body!r}"
        pointer = f"/paths/{_escape(line[1])}/{line[0].lower()}/responses/{status}"
        response = operation["responses"][str(status)]
        self._check_headers(response, headers, f"{line} with {status}")
        if method != "HEAD":
            self._check_body(response, headers, body, pointer)
        if sent and status < 300 and "requestBody" in operation:
            self._check_request(line, sent)

    def _check_other(self, method: str, status: int, headers: CIMultiDictProxy[str], body: bytes, *, missing: str) -> None:
        if method == "OPTIONS" and status == 204:  # to a browser that asks beforehand
            return
        if method == "HEAD":
            assert status in {400, 404, 405, 414, 417, 431}
            return
        slug = json.loads(body)["type"].removeprefix("/problems/")
        assert slug in {missing, *OF_ANY_REQUEST}, f"{method} with {status}: {body!r}"
        component = "".join(word.title() for word in slug.split("-"))
        if component in self.document["components"]["responses"]:
            response = self.document["components"]["responses"][component]
            self._check_headers(response, headers, slug)
            self._check_body(response, headers, body, f"/components/responses/{component}")

    def _check_headers(self, response: dict[str, Any], headers: CIMultiDictProxy[str], what: str) -> None:
        named = {name.lower(): self.resolved(header) for name, header in self.resolved(response).get("headers", {}).items()}
        there = {name.lower() for name in headers} - OF_HTTP
        assert there <= set(named), f"{what} has headers that are not described: {there - set(named)}"
        required = {name for name, header in named.items() if header["required"]}
        assert required <= there, f"{what} lacks headers that are described: {required - there}"
        for name in there:
            faults = list(Draft202012Validator(named[name]["schema"]).iter_errors(headers[name]))
            assert not faults, f"{what} has {name}: {headers[name]}: {faults[0].message}"

    def _check_body(self, response: dict[str, Any], headers: CIMultiDictProxy[str], body: bytes, pointer: str) -> None:
        content = self.resolved(response).get("content", {})
        kind = headers.get("Content-Type", "").partition(";")[0]
        if not content:
            assert body == b""
            return
        assert kind in content, f"{kind} is not described at {pointer}"
        if kind.endswith("json"):
            at = response["$ref"].removeprefix("#") if "$ref" in response else pointer
            found = json.loads(body)
            self._validate(found, f"{at}/content/{_escape(kind)}/schema")
            if "x-problems" in self.resolved(response):
                assert found["type"] in self.resolved(response)["x-problems"], f"{found['type']} is not described at {pointer}"

    def _check_request(self, line: Line, sent: bytes) -> None:
        body = f"/paths/{_escape(line[1])}/{line[0].lower()}/requestBody/content"
        if "application/x-www-form-urlencoded" in self.document["paths"][line[1]][line[0].lower()]["requestBody"]["content"]:
            # What is not described is ignored in a form, and so is what has no value.
            form = {name: text for name, text in parse_qsl(sent.decode()) if name in {"token", "token_type_hint"}}
            self._validate(form, f"{body}/application~1x-www-form-urlencoded/schema")
            return
        content = json.loads(sent)
        # Lengths are those after normalisation, as the description says.
        normal = {name: unicodedata.normalize("NFC", text) for name, text in content.items()}
        if "name" in normal:
            normal["name"] = unicodedata.normalize("NFC", normal["name"].strip()).strip()
        self._validate(normal, f"{body}/application~1json/schema")

    def _validate(self, content: object, pointer: str) -> None:
        validator = self._validators.get(pointer)
        if validator is None:
            validator = self._validators[pointer] = Draft202012Validator(
                {"$ref": f"{DOCUMENT}#{pointer}"}, registry=self._registry, format_checker=FormatChecker()
            )
        faults = [f"{fault.json_path}: {fault.message}" for fault in validator.iter_errors(content)]
        assert not faults, f"not as described at {pointer}: {faults}"


@lru_cache(maxsize=32)
def description_of(settings: Settings) -> Description:
    """Return the description of a service with these settings."""
    return Description(openapi_document(settings))


def _fits(template: list[str], path: list[str]) -> bool:
    if len(template) != len(path):
        return False
    pairs = zip(template, path, strict=True)
    return all(PARAMETER.fullmatch(given) if part.startswith("{") else part == given for part, given in pairs)


def _escape(text: str) -> str:
    return text.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D")
