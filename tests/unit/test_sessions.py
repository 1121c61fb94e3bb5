"""Tokens, sessions and clients as values."""

import base64
import hashlib
import string
import zlib
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pickguard.domain.model.errors import InvalidToken
from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.sessions import USER_AGENT_MAX_LENGTH, Client, Session, SessionRules, Token
from tests.support.strategies import NOW, examples, session, tokens

MOMENT = timedelta(milliseconds=1)
RULES = SessionRules(lifetime=timedelta(days=30), idle=timedelta(days=14))
TOKEN = Token(user_id=UserId(UUID("01234567-89ab-7def-8123-456789abcdef")), secret=bytes(range(32)))


@examples(40)
@given(tokens)
def test_a_token_is_read_as_it_was_revealed(token: Token) -> None:
    assert Token.parse(token.reveal()) == token


@examples(30)
@given(tokens)
def test_a_token_is_known_by_its_prefix_and_needs_no_escaping_anywhere(token: Token) -> None:
    text = token.reveal()
    assert text.startswith("pg_")
    assert len(text) == 75
    assert set(text) <= set(string.ascii_letters + string.digits + "-_")


@examples(40)
@given(tokens, st.data())
def test_a_token_with_any_one_character_changed_is_refused(token: Token, data: st.DataObject) -> None:
    text = token.reveal()
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.one_of(st.sampled_from(string.printable), st.characters()).filter(lambda char: char != text[place]))
    with pytest.raises(InvalidToken):
        Token.parse(text[:place] + other + text[place + 1 :])


def test_a_token_with_any_one_letter_in_the_other_case_is_refused() -> None:
    text = TOKEN.reveal()
    for place, char in enumerate(text):
        if char.swapcase() != char:
            with pytest.raises(InvalidToken):
                Token.parse(text[:place] + char.swapcase() + text[place + 1 :])


SLIPS: dict[str, Callable[[str], str]] = {
    "nothing": lambda _: "",
    "a line's end": lambda text: text + "\n",
    "a space": lambda text: " " + text,
    "one character less": lambda text: text[:-1],
    "one character more": lambda text: text + "0",
    "no prefix": lambda text: text[3:],
    "another prefix": lambda text: text.replace("pg_", "pg-"),
    "two characters swapped": lambda text: text[:3] + text[4] + text[3] + text[5:],
    "capitals": str.upper,
    "digits of another script": lambda text: text[:-8] + "\N{FULLWIDTH DIGIT ZERO}" * 8,
    "padding": lambda text: text[:67] + "=" + text[67:],
    "a lone surrogate": lambda text: text[:-1] + "\ud800",
}


@pytest.mark.parametrize("slip", SLIPS.values(), ids=SLIPS)
def test_a_slip_of_the_hand_is_refused(slip: Callable[[str], str]) -> None:
    with pytest.raises(InvalidToken):
        Token.parse(slip(TOKEN.reveal()))


def like_a_token(content: bytes) -> str:
    body = "pg_" + base64.urlsafe_b64encode(content).decode()
    return f"{body}{zlib.crc32(body.encode()):08x}"


token_like = st.binary(min_size=46, max_size=50).map(like_a_token)


@examples(40)
@given(st.one_of(st.text(), token_like))
def test_a_text_that_is_no_token_is_refused_and_nothing_else_happens(text: str) -> None:
    try:
        token = Token.parse(text)
    except InvalidToken:
        return
    assert token.reveal() == text


@pytest.mark.requirement(21, 61)
def test_only_a_digest_of_the_secret_is_what_is_stored() -> None:
    assert TOKEN.digest == hashlib.sha256(bytes(range(32))).digest()


def test_the_digest_does_not_depend_on_the_user() -> None:
    assert attrs.evolve(TOKEN, user_id=UserId(UUID(int=2))).digest == TOKEN.digest


def test_no_repr_shows_a_secret_or_a_digest() -> None:
    shown = repr(TOKEN) + repr(attrs.evolve(session(1), digest=TOKEN.digest))
    for secret in (TOKEN.secret, TOKEN.digest):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
    assert TOKEN.reveal() not in shown


# When sessions end


@pytest.mark.parametrize(
    ("used_after", "ends_after"),
    [
        (timedelta(0), timedelta(days=14)),
        (timedelta(days=10), timedelta(days=24)),
        (timedelta(days=16), timedelta(days=30)),
        (timedelta(days=16, milliseconds=1), timedelta(days=30)),
        (timedelta(days=29), timedelta(days=30)),
    ],
)
def test_a_session_ends_at_the_nearer_of_its_two_limits_to_the_millisecond(
    used_after: timedelta, ends_after: timedelta
) -> None:
    made = attrs.evolve(session(1), last_used_at=NOW + used_after)
    assert made.expires_at(RULES) == NOW + ends_after
    assert made.is_live(NOW + ends_after - MOMENT, RULES)
    assert not made.is_live(NOW + ends_after, RULES)


@examples(30)
@given(st.timedeltas(timedelta(0), timedelta(days=40)), st.timedeltas(timedelta(0), timedelta(days=40)))
def test_a_session_is_live_until_it_expires_and_never_after(used_after: timedelta, wait: timedelta) -> None:
    made = attrs.evolve(session(1), last_used_at=NOW + used_after)
    assert made.is_live(NOW + wait, RULES) == (NOW + wait < made.expires_at(RULES))
    assert made.expires_at(RULES) <= NOW + RULES.lifetime


@pytest.mark.parametrize(
    ("wait", "due"), [(RULES.touch_interval - MOMENT, False), (RULES.touch_interval, True), (-MOMENT, False)]
)
def test_a_use_is_written_again_after_the_interval(wait: timedelta, due: bool) -> None:  # noqa: FBT001
    assert session(1).is_due_for_touch(NOW + wait, RULES) == due


@pytest.mark.parametrize(
    ("wait", "fresh"), [(timedelta(0), True), (timedelta(minutes=15), True), (timedelta(minutes=15) + MOMENT, False)]
)
def test_a_proof_of_the_password_is_fresh_for_the_window(wait: timedelta, fresh: bool) -> None:  # noqa: FBT001
    made: Session = session(1)
    assert made.is_freshly_authenticated(NOW + wait, RULES) == fresh


# Where a request comes from


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        (None, None),
        ("", None),
        ("curl/8", "curl/8"),
        ("a\r\nb\0c\x1b[0m\u2028", "a\ufffd\ufffdb\ufffdc\ufffd[0m\ufffd"),
        ("\ud800", "\ufffd"),
        ("\N{GRINNING FACE}" * 300, "\N{GRINNING FACE}" * USER_AGENT_MAX_LENGTH),
    ],
)
def test_what_a_client_calls_itself_is_cut_and_made_displayable(given_text: str | None, kept: str | None) -> None:
    assert Client(user_agent=given_text).user_agent == kept


@examples(30)
@given(st.text(max_size=400))
def test_what_a_client_calls_itself_can_always_be_stored_and_stays_the_same(text: str) -> None:
    kept = Client(user_agent=text).user_agent
    assert kept is None or (len(kept.encode()) <= 4 * USER_AGENT_MAX_LENGTH and Client(user_agent=kept).user_agent == kept)
