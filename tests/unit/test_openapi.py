"""The API's description is complete, valid, and made of what the service itself is made of."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from pickguard.entrypoints.http import openapi, operations
from pickguard.entrypoints.http.openapi import FAULT_CODES, openapi_document
from pickguard.entrypoints.http.problems import TYPES
from pickguard.entrypoints.http.routes import MAIL_ROUTES, ROUTES, routes
from pickguard.entrypoints.settings import Settings
from tests.support.description import Description

SOURCE = Path(openapi.__file__).parents[2]
MAIL = Settings(mail="console:")
VARIANTS = {
    "as it comes": Settings(),
    "with mail": MAIL,
    "private": attrs.evolve(MAIL, registration="private"),
    "closed": Settings(registration="closed"),
    "plain, for pages of others": Settings(no_tls=True, cors_origins=("https://app.example.com",)),
    "without limits": Settings(rate_limits="off"),
    "without its page": Settings(docs="off"),
    "for other services": Settings(service_credentials=Path(__file__).with_name("__init__.py")),
    "below a path": Settings(public_url="https://example.com/accounts", service_name="Example"),
}
variants = pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())


def parts(content: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every object in a document."""
    if isinstance(content, dict):
        yield content
        for each in content.values():
            yield from parts(each)
    elif isinstance(content, list):
        for each in content:
            yield from parts(each)


@variants
def test_the_document_is_valid(settings: Settings) -> None:
    document = openapi_document(settings)
    validate(document)
    assert document["openapi"].startswith("3.1.")
    assert json.loads(openapi.openapi_json(settings)) == document


@pytest.mark.requirement(85)
@variants
def test_every_route_is_described_and_nothing_else_is(settings: Settings) -> None:
    found = Description(openapi_document(settings))
    assert {line for line, _ in found.operations()} == {(method, path) for method, path, _ in routes(settings)}


@pytest.mark.parametrize("name", ["..%2F..%2Fetc%2Fpasswd", "%2F", "a%252Fb", "%0A"])
def test_answers_to_a_parameter_with_an_encoded_slash_are_held_to_its_operation(name: str) -> None:
    description = Description(openapi_document(Settings()))
    assert description.line_of("DELETE", f"/v1/sessions/{name}") == (("DELETE", "/v1/sessions/{id}"), True)
    assert description.line_of("DELETE", f"/%761/sessions/{name}") == (("DELETE", "/v1/sessions/{id}"), True)
    assert description.line_of("DELETE", f"/v1/sessions/{name}/x") == (None, False)
    assert description.line_of("DELETE", "/v1/sessions/%7Bid%7D") == (None, False)


def test_no_operation_is_without_a_route() -> None:
    everything = {(method, path) for method, path, _ in routes(MAIL)}
    assert set(operations.operations(MAIL)) == everything
    assert {(method, path) for method, path, _ in (*ROUTES, *MAIL_ROUTES)} <= everything


def test_a_route_without_an_operation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    known = operations.operations(MAIL)
    monkeypatch.setattr(openapi, "operations", lambda _: {line: known[line] for line in known if line != ("GET", "/livez")})
    with pytest.raises(LookupError, match="/livez"):
        openapi_document(MAIL)


@variants
def test_every_operation_is_told_to_people_and_to_generators(settings: Settings) -> None:
    found = [operation for _, operation in Description(openapi_document(settings)).operations()]
    names = [operation["operationId"] for operation in found]
    assert len(set(names)) == len(names)
    for operation in found:
        assert operation["summary"]
        assert operation["description"].endswith(".")
        assert set(operation["tags"]) <= {tag["name"] for tag in openapi_document(settings)["tags"]}


@variants
def test_every_example_is_what_it_is_an_example_of(settings: Settings) -> None:
    document = openapi_document(settings)
    count = 0
    for part in parts(document):
        if isinstance(schema := part.get("schema"), dict):
            whole = {**schema, "components": document["components"]}
            named = part.get("examples", {})
            for example in ([part["example"]] if "example" in part else []) + [each["value"] for each in named.values()]:
                assert list(Draft202012Validator(whole).iter_errors(example)) == [], example
                count += 1
    assert count > 50


@variants
def test_every_body_has_an_example(settings: Settings) -> None:
    for part in parts(openapi_document(settings)["paths"]):
        for kind, content in part.get("content", {}).items():
            if kind in {"application/json", "application/merge-patch+json"} and content["schema"] != {"type": "object"}:
                assert "example" in content


@variants
def test_every_parameter_has_an_example(settings: Settings) -> None:
    for name, parameter in openapi_document(settings)["components"]["parameters"].items():
        assert "example" in parameter, name


def test_any_request_id_is_taken() -> None:
    """What is no UUID is replaced, not refused: a client that goes by the description may send it."""
    parameter = openapi_document(Settings())["components"]["parameters"]["XRequestId"]
    assert parameter["schema"] == {"type": "string"}


@variants
def test_every_member_is_described(settings: Settings) -> None:
    for name, schema in openapi_document(settings)["components"]["schemas"].items():
        assert schema["description"], name
        assert schema["additionalProperties"] is False, name
        for member, content in schema["properties"].items():
            assert content.get("description") or "$ref" in content or "const" in content or "items" in content, (name, member)


@variants
def test_nothing_refers_to_what_is_not_there_and_nothing_is_there_for_nothing(settings: Settings) -> None:
    document = openapi_document(settings)
    references = {part["$ref"] for part in parts(document) if "$ref" in part}
    of_any_path = {"#/components/responses/NotFound", "#/components/responses/MethodNotAllowed"}
    there = {
        f"#/components/{kind}/{name}"
        for kind, components in document["components"].items()
        if kind != "securitySchemes"
        for name in components
    }
    assert references <= there
    assert there - references <= of_any_path


def test_every_type_of_problem_is_described() -> None:
    described = {slug for settings in VARIANTS.values() for _, _, slug in Description(openapi_document(settings)).outcomes()}
    of_any_path = {"method-not-allowed"}
    assert described | of_any_path == {"", *TYPES}
    shown = openapi_document(Settings())["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]
    assert shown == [kind.path for kind in TYPES.values()]


def test_what_depends_on_the_settings() -> None:
    open_, mail, private, closed = (
        openapi_document(VARIANTS[name]) for name in ("as it comes", "with mail", "private", "closed")
    )
    registering = [found["paths"]["/v1/users"]["post"] for found in (open_, private, closed)]
    assert [next(iter(sorted(found["responses"]))) for found in registering] == ["201", "202", "400"]
    assert "403" in registering[2]["responses"]
    assert "requestBody" not in registering[2]
    assert "pending_email" not in open_["components"]["schemas"]["User"]["properties"]
    assert "pending_email" in mail["components"]["schemas"]["User"]["required"]
    assert not [path for path in open_["paths"] if "verification" in path or "reset" in path]
    assert "429" not in openapi_document(VARIANTS["without limits"])["paths"]["/v1/sessions"]["post"]["responses"]
    assert "/docs" not in openapi_document(VARIANTS["without its page"])["paths"]
    assert [each["url"] for each in openapi_document(VARIANTS["below a path"])["servers"]] == [
        "/accounts",
        "https://example.com/accounts",
    ]
    longer = openapi_document(Settings(password_min_length=15))["components"]["schemas"]["RegistrationBody"]["properties"]
    assert longer["password"]["minLength"] == 15
    assert "15 to 256" in longer["password"]["description"]


@variants
def test_no_version_of_any_software_is_told(settings: Settings) -> None:
    text = json.dumps(openapi_document(settings)).lower()
    assert not [word for word in ("aiohttp", "python", "redis", "valkey", "uvloop", "0.1.0") if word in text]


def test_every_code_of_a_fault_is_one_that_there_is() -> None:
    # That none is missing is looked at in every answer, by tests.support.http.
    sources = [path.read_text() for path in SOURCE.rglob("*.py") if path.name != "openapi.py"]
    assert all(any(f'"{code}"' in text for text in sources) for code in FAULT_CODES)
