"""Bodies of requests: every fault of shape at once; and objects of answers."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pickguard.domain.model.errors import Fault, InvalidFields
from pickguard.domain.model.sessions import Client, Token
from pickguard.domain.services.authentication import LoggedIn
from pickguard.domain.services.sessions import SessionList
from pickguard.entrypoints.http.schemas import (
    ChangeBody,
    LogInBody,
    ReauthenticationBody,
    RegistrationBody,
    render_log_in,
    render_session,
    render_sessions,
    render_user,
    structure,
)
from tests.support.strategies import NOW, RULES, USER_ID, examples, json_values, new_account, session

SHAPES: list[type[Any]] = [RegistrationBody, LogInBody, ReauthenticationBody, ChangeBody]


def nothing_more(_: Mapping[str, str]) -> tuple[Fault, ...]:
    return ()


def faults(content: object, shape: type[Any] = RegistrationBody) -> list[tuple[str | None, str]]:
    with pytest.raises(InvalidFields) as refused:
        structure(content, shape, nothing_more)
    assert all(fault.detail.endswith(".") for fault in refused.value.faults)
    return [(fault.field, fault.code) for fault in refused.value.faults]


def test_a_body_becomes_an_object_of_its_shape() -> None:
    content = {"name": "Ada", "email": "ada@example.com", "password": "secret \ud800"}
    assert structure(content, RegistrationBody, nothing_more) == RegistrationBody(**content)


def test_a_member_of_a_change_may_be_left_out() -> None:
    assert structure({}, ChangeBody, nothing_more) == ChangeBody()
    assert structure({"name": "Ada"}, ChangeBody, nothing_more) == ChangeBody(name="Ada")


@pytest.mark.parametrize("content", [None, True, 1, 1.5, "text", [], [{}]])
def test_what_is_no_object_is_one_fault_of_the_whole(content: object) -> None:
    assert faults(content) == [(None, "wrong_type")]


def test_all_faults_of_shape_are_told_at_once() -> None:
    content = {"name": 1, "email": None, "nickname": "x", "": "y"}
    assert faults(content) == [
        ("", "unknown_field"),
        ("email", "wrong_type"),
        ("name", "wrong_type"),
        ("nickname", "unknown_field"),
        ("password", "required"),
    ]


@pytest.mark.parametrize("value", [None, 1, 1.5, True, [], ["x"], {}, {"a": "x"}])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_member_is_a_string_and_never_null(shape: type[Any], value: object) -> None:
    names = [field.name for field in attrs.fields(shape)]
    assert faults(dict.fromkeys(names, value), shape) == [(name, "wrong_type") for name in sorted(names)]


@pytest.mark.parametrize("shape", [RegistrationBody, LogInBody, ReauthenticationBody])
def test_every_member_is_required(shape: type[Any]) -> None:
    assert faults({}, shape) == [(name, "required") for name in sorted(field.name for field in attrs.fields(shape))]


def test_members_of_sound_shape_are_examined_beside_the_faults_of_shape() -> None:
    seen: list[dict[str, str]] = []

    def examine(sound: Mapping[str, str]) -> tuple[Fault, ...]:
        seen.append(dict(sound))
        return (Fault(field="email", code="invalid_email", detail="No."),)

    with pytest.raises(InvalidFields) as refused:
        structure({"email": "x", "password": 5, "extra": "y", "self": "z"}, RegistrationBody, examine)
    assert seen == [{"email": "x"}]
    assert [(fault.field, fault.code) for fault in refused.value.faults] == [
        ("extra", "unknown_field"),
        ("name", "required"),
        ("password", "wrong_type"),
        ("self", "unknown_field"),
        ("email", "invalid_email"),
    ]


def test_a_body_of_sound_shape_is_not_examined_here() -> None:
    def examine(_: Mapping[str, str]) -> tuple[Fault, ...]:
        raise AssertionError

    structure({"email": "x", "password": "y"}, LogInBody, examine)


@pytest.mark.parametrize("name", ["__class__", "__init__", "self", "_password", "Email", "email ", "émail", "a/b~c", "\ud800"])
def test_a_member_of_any_other_name_is_unknown(name: str) -> None:
    assert faults({"email": "x", "password": "y", name: "z"}, LogInBody) == [(name, "unknown_field")]


members = st.dictionaries(
    st.one_of(st.sampled_from(["name", "email", "password", "current_password"]), st.text(max_size=5)), json_values, max_size=5
)


@examples(40)
@given(st.sampled_from(SHAPES), st.one_of(members, json_values))
def test_any_json_is_a_body_or_refused_with_a_fault_for_each_member(shape: type[Any], content: object) -> None:
    try:
        body = structure(content, shape, nothing_more)
    except InvalidFields as error:
        named = [fault.field for fault in error.faults]
        assert len(named) == len(set(named)) > 0
    else:
        assert {name: value for name, value in attrs.asdict(body).items() if value is not None} == content


def test_no_repr_of_a_body_shows_a_password() -> None:
    bodies = [
        RegistrationBody(name="Ada", email="ada@example.com", password="geheim"),
        LogInBody(email="ada@example.com", password="geheim"),
        ReauthenticationBody(password="geheim"),
        ChangeBody(password="geheim", current_password="geheim"),
    ]
    assert [type(body) for body in bodies] == SHAPES
    assert "geheim" not in repr(bodies)
    assert "geheim" not in "".join(map(str, bodies))


# Answers


def test_a_user_is_rendered_without_credential_and_sessions() -> None:
    user = new_account().user
    assert json.loads(render_user(user, with_pending=False)) == {
        "id": str(USER_ID),
        "name": "Ada",
        "email": "ada@example.com",
        "email_verified": False,
        "created_at": "2026-01-02T03:04:05.678Z",
        "updated_at": "2026-01-02T03:04:05.678Z",
    }
    assert render_user(user, with_pending=False) == render_user(attrs.evolve(user), with_pending=False)


def test_a_session_is_rendered_without_its_digest() -> None:
    made = attrs.evolve(session(1), client=Client(ip="192.0.2.1", user_agent="test"), last_used_at=NOW + timedelta(days=1))
    assert json.loads(render_session(made, RULES, current=made.id)) == {
        "id": str(made.id),
        "created_at": "2026-01-02T03:04:05.678Z",
        "last_used_at": "2026-01-03T03:04:05.678Z",
        "authenticated_at": "2026-01-02T03:04:05.678Z",
        "expires_at": "2026-01-06T03:04:05.678Z",
        "user_agent": "test",
        "ip": "192.0.2.1",
        "current": True,
    }


def test_a_time_is_rendered_to_the_millisecond_even_on_the_second() -> None:
    user = attrs.evolve(new_account().user, created_at=NOW.replace(microsecond=0))
    assert json.loads(render_user(user, with_pending=False))["created_at"] == "2026-01-02T03:04:05.000Z"


def test_of_listed_sessions_one_is_current() -> None:
    listed = SessionList(sessions=(session(1), session(2)), current=session(2).id)
    assert [each["current"] for each in json.loads(render_sessions(listed, RULES))["sessions"]] == [False, True]


def test_a_log_in_is_rendered_with_its_token_and_how_long_it_lasts() -> None:
    token = Token(user_id=USER_ID, secret=bytes(32))
    made = attrs.evolve(session(1), last_used_at=NOW + timedelta(days=9))
    content = json.loads(render_log_in(LoggedIn(token=token, user=new_account().user, session=made), RULES, with_pending=False))
    assert (content["access_token"], content["token_type"]) == (token.reveal(), "Bearer")
    assert content["expires_in"] == 86_400
    assert content["session"]["current"]
    assert content["user"]["id"] == str(USER_ID)
