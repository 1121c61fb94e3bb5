"""The JSON Schemas of what requests and answers are made of (JSON Schema 2020-12, as OpenAPI 3.1 has it).

A member is described where it is declared: a field of a body's attrs class in its metadata, a member of an answer's typed
dictionary in its annotation. Schemas are made from those, so a body that is read and an object that is rendered have one
declaration, which the type checker, the reader of bodies and the API's description share.
"""

import types
from collections.abc import Callable, Iterator, Mapping
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import attrs

from pickguard.domain.model.credentials import PASSWORD_MAX_LENGTH
from pickguard.domain.model.users import EMAIL_MAX_LENGTH, NAME_MAX_LENGTH
from pickguard.entrypoints.settings import Settings

Schema = dict[str, Any]
Described = Mapping[str, Any]
"""Keywords of a schema. A value that is a function is asked with the settings; the keyword `where` says whether the member is
there at all."""

SHAPE: Final = "shape"
"""The key under which an attrs field has its keywords."""

UUID: Final[Schema] = {
    "format": "uuid",
    "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
}
TIME: Final[Schema] = {
    "format": "date-time",
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
}

NAME: Final[Described] = {
    "description": (
        f"What the person wants to be called: 1 to {NAME_MAX_LENGTH} characters after Unicode normalisation (form C), which is "
        "how it is kept, without space at the ends. No control characters, no lone surrogates, no marks that change the "
        "direction of text."
    ),
    "minLength": 1,
    "maxLength": NAME_MAX_LENGTH,
    "examples": ["Ada Lovelace"],
}
EMAIL: Final[Described] = {
    "description": (
        "The e-mail address. The part before the at sign is ASCII, without quotes; an internationalised domain may be written "
        "in Unicode or in its xn-- form. Upper and lower case make no difference to whose address it is."
    ),
    "format": "idn-email",
    "maxLength": EMAIL_MAX_LENGTH,
    "examples": ["ada@example.com"],
}
NEW_PASSWORD: Final[Described] = {
    "description": lambda settings: (
        f"A password of {settings.password_min_length} to {PASSWORD_MAX_LENGTH} characters, counted after Unicode "
        "normalisation (form C); all of it counts, spaces as well. It is none of the passwords that attackers try first, and "
        "not made of the e-mail address, the name or the name of the service. Digits and signs are not asked for."
    ),
    "format": "password",
    "minLength": lambda settings: settings.password_min_length,
    "maxLength": PASSWORD_MAX_LENGTH,
    "examples": ["correct horse battery staple"],
}
PASSWORD: Final[Described] = {
    "description": f"The present password. Longer than {PASSWORD_MAX_LENGTH} characters it can be none.",
    "format": "password",
    "maxLength": PASSWORD_MAX_LENGTH,
    "examples": ["correct horse battery staple"],
}
MAILED_TOKEN: Final[Described] = {
    "description": "The token from the mail. It stands there on a line of its own, and behind # in the link.",
    "examples": [f"pgm_{'A' * 64}c81fa14b"],
}


def described(description: str | Callable[[Settings], str], *, example: object = None, **keywords: Any) -> Described:
    """Return the keywords of a member."""
    examples = {} if example is None else {"examples": [example]}
    return {"description": description, **keywords, **examples}


def component_name(shape: type) -> str:
    """Return the name of a shape in the API's description."""
    return shape.__name__.removeprefix("Shown")


class Shapes:
    """The schemas that one service's description needs, each under its name, made as they are asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.components: dict[str, Schema] = {}

    def reference(self, shape: type) -> Schema:
        """Return a reference to the schema of a body's class or of an answer's typed dictionary."""
        name = component_name(shape)
        if name not in self.components:
            self.components[name] = {}  # known by now, so that a shape may hold itself
            members = self._members_of_answer(shape) if is_typeddict(shape) else self._members_of_body(shape)
            self.components[name] = self._object(shape, list(members))
        return {"$ref": f"#/components/schemas/{name}"}

    def _object(self, shape: type, members: list[tuple[str, Schema, bool]]) -> Schema:
        return {
            "type": "object",
            "description": (shape.__doc__ or "").strip(),
            "properties": {name: schema for name, schema, _ in members},
            "required": [name for name, _, is_required in members if is_required],
            "additionalProperties": False,
        }

    def _members_of_body(self, shape: type) -> Iterator[tuple[str, Schema, bool]]:
        for field in attrs.fields(shape):
            # Every member of a body is a string: optional means that it may be missing, not that it may be null.
            schema = {"type": "string", **self._keywords(field.metadata[SHAPE])}
            if field.metadata[SHAPE].get("format") == "password":
                schema["writeOnly"] = True
            yield field.name, schema, field.default is attrs.NOTHING

    def _members_of_answer(self, shape: type) -> Iterator[tuple[str, Schema, bool]]:
        for name, hint in get_type_hints(shape, include_extras=True).items():
            kind = get_args(hint)[0] if get_origin(hint) in {NotRequired, Required} else hint
            keywords = kind.__metadata__[0] if get_origin(kind) is Annotated else {}
            if keywords.get("where", _everywhere)(self._settings):
                yield name, {**self._of_type(kind), **self._keywords(keywords)}, True

    def _keywords(self, keywords: Described) -> Schema:
        return {
            name: value(self._settings) if callable(value) else value for name, value in keywords.items() if name != "where"
        }

    def _of_type(self, kind: Any) -> Schema:
        origin, inner = get_origin(kind), get_args(kind)
        if origin is Annotated:
            return self._of_type(inner[0])
        if origin is Literal:
            return {"type": "string", "const": inner[0]} if len(inner) == 1 else {"type": "string", "enum": list(inner)}
        if origin is list:
            return {"type": "array", "items": self._of_type(inner[0])}
        if origin in {Union, types.UnionType}:
            (present,) = (each for each in inner if each is not type(None))
            return {"type": [self._of_type(present)["type"], "null"]}
        if origin is dict:
            return {"type": "object", "additionalProperties": self._of_type(inner[1])}
        return self.reference(kind) if is_typeddict(kind) else {"type": _TYPES[kind]}


_TYPES: Final = {str: "string", int: "integer", bool: "boolean"}


def _everywhere(_: Settings) -> bool:
    return True


def example_of(schema: Schema, components: Mapping[str, Schema]) -> Any:
    """Return a value that a schema describes, made of the examples of its parts."""
    if "$ref" in schema:
        return example_of(components[schema["$ref"].rpartition("/")[2]], components)
    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    if schema["type"] == "array":
        return [example_of(schema["items"], components)]
    return {name: example_of(schema["properties"][name], components) for name in schema["properties"]}
