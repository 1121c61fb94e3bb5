"""What a form brings: read strictly, and shown again with what is wrong beside each field."""

from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Self
from urllib.parse import parse_qsl

import attrs
from aiohttp import web

from pickguard.domain.model.errors import Fault
from pickguard.domain.services.fields import Examined
from pickguard.entrypoints.http.problems import ProblemError, problem
from pickguard.entrypoints.http.requests import read_form as read_form_body

_MOST_FIELDS = 16


@attrs.frozen(kw_only=True)
class Form:
    """The fields of a form and what is wrong with them. A fault without a field is of the whole form."""

    values: Mapping[str, str] = attrs.field(factory=dict, repr=False)  # there may be a password among them
    faults: tuple[Fault, ...] = ()
    alert: str = ""
    """What is wrong with the form as a whole, in words for a person."""
    status: int = HTTPStatus.OK

    def __getitem__(self, name: str) -> str:
        return self.values.get(name, "")

    def fault(self, name: str) -> Fault | None:
        """Return what is wrong with a field first."""
        return next((each for each in self.faults if each.field == name), None)

    @property
    def is_refused(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.faults or self.alert)

    def require(self, *names: str) -> Self:
        """Return the form with what is wrong with fields that are empty."""
        faults = tuple(Fault(field=name, code="required", detail="Fill this in.") for name in names if not self[name])
        return self.refused(*faults) if faults else self

    def refused(self, *faults: Fault, status: int = HTTPStatus.UNPROCESSABLE_ENTITY) -> Self:
        """Return the form with faults."""
        return attrs.evolve(self, faults=(*self.faults, *faults), status=status)

    def refused_by(self, examined: Examined) -> Self:
        """Return the form with the faults that its fields were found to have."""
        return self.refused(*examined.faults) if examined.faults else self

    def alerted(self, alert: str, status: int) -> Self:
        """Return the form with something wrong about the whole of it."""
        return attrs.evolve(self, alert=alert, status=status)

    def with_values(self, **values: str) -> Self:
        """Return the form with fields that the page shows beside those that were sent."""
        return attrs.evolve(self, values={**self.values, **values})

    def without(self, *names: str) -> Self:
        """Return the form without what must not be shown again."""
        return attrs.evolve(self, values={name: value for name, value in self.values.items() if name not in names})


async def read_form(request: web.Request, names: Collection[str]) -> Form:
    """Return the fields that a form has. Raises a problem for what no form of these pages sends: other fields, or one twice."""
    body = await read_form_body(request)
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            encoding="utf-8",
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:  # which decoding raises a kind of, too
        raise _malformed("The body is not a form in UTF-8.") from None
    values = dict(pairs)
    if len(values) != len(pairs):
        raise _malformed("The form has a field twice.")
    if not values.keys() <= set(names):
        raise _malformed("The form has a field that there is not.")
    return Form(values=values)


def _malformed(detail: str) -> ProblemError:
    return ProblemError(problem("malformed-request", detail))
