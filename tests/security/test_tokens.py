"""What a token is made of, and that nothing but a token opens anything."""

import base64
import json
import os
from datetime import timedelta
from math import sqrt

import pytest
import redis.asyncio

from pickguard.adapters.memory import MemoryAccounts
from pickguard.domain.model.sessions import Token
from tests.support.fakes import GOOD_PASSWORD, FakeClock
from tests.support.http import Api, serving
from tests.support.store_contents import all_bytes, contents

ME = "/v1/users/me"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def forms_of(secret: bytes) -> list[bytes]:
    """Return how a secret could be written down without hiding it."""
    return [secret, secret.hex().encode(), base64.b64encode(secret).rstrip(b"="), base64.urlsafe_b64encode(secret).rstrip(b"=")]


@pytest.mark.requirement(21)
@pytest.mark.would_have_caught("fastapi-users-redis")
async def test_no_token_can_be_read_in_the_store(api: Api, store: redis.asyncio.Redis) -> None:
    token = await api.sign_up()
    tokens = [token, await api.log_in()]
    answer = await api.call("POST", "/v1/sessions/current/reauthentication", {"password": GOOD_PASSWORD}, token=token)
    tokens.append(answer.json()["access_token"])
    found = await all_bytes(store)
    # What is looked through is where tokens are looked up; the first one was replaced.
    assert [bytes(Token.parse(each).digest) in found for each in tokens] == [False, True, True]
    for each in map(Token.parse, tokens):
        for form in (each.reveal().encode(), each.reveal()[3:67].encode(), *forms_of(each.secret)):
            assert form not in found
    assert not any(key.startswith(b"pg_") for key in await contents(store))


@pytest.mark.requirement(21)
@pytest.mark.would_have_caught("crudauth-sessions")
async def test_nothing_that_an_answer_shows_of_a_session_opens_it(api: Api) -> None:
    token = await api.sign_up()
    listed = await api.sessions(token)
    (session,) = listed
    user = await api.me(token)
    assert token not in json.dumps([listed, user])
    for shown in {*map(str, session.values()), *map(str, user.values())}:
        if shown.isascii():
            for guess in (shown, f"pg_{shown}", token[:3] + base64.urlsafe_b64encode(shown.encode()).decode()):
                assert not await api.opens(guess)


@pytest.mark.requirement(22, 30)
async def test_tokens_are_256_bits_that_have_nothing_in_common() -> None:
    # White noise: each bit of the secret is set in half of the tokens, within five and a half standard deviations, so that a
    # sound generator fails here once in a hundred thousand runs.
    count = 400
    async with serving(MemoryAccounts()) as api:
        await api.register()
        secrets = [Token.parse(await api.log_in()).secret for _ in range(count)]
    assert {len(secret) for secret in secrets} == {32}
    assert len({secret[:8] for secret in secrets}) == len({secret[-8:] for secret in secrets}) == count
    numbers = [int.from_bytes(secret, "big") for secret in secrets]
    for bit in range(256):
        ones = sum(number >> bit & 1 for number in numbers)
        assert abs(ones - count / 2) < 5.5 * sqrt(count) / 2, f"bit {bit} is set in {ones} of {count}"


@pytest.mark.requirement(22, 30)
async def test_a_token_is_what_the_systems_generator_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def generator(size: int) -> bytes:
        asked.append(size)
        return b"\x5a" * size

    async with serving(MemoryAccounts()) as api:
        await api.register()
        monkeypatch.setattr(os, "urandom", generator)
        token = Token.parse(await api.log_in())
    assert token.secret == b"\x5a" * 32
    assert 32 in asked


@pytest.mark.requirement(29)
async def test_a_token_with_any_one_character_changed_opens_nothing(api: Api) -> None:
    token = await api.sign_up()
    for place, char in enumerate(token):
        for other in {ALPHABET[(ALPHABET.find(char) + 1) % 64], "0" if char != "0" else "1"}:
            assert not await api.opens(token[:place] + other + token[place + 1 :])
    assert await api.opens(token)


@pytest.mark.requirement(29, 61)
async def test_a_well_formed_token_opens_nothing_however_much_of_its_secret_is_right(api: Api) -> None:
    token = Token.parse(await api.sign_up())
    for place in range(32):
        wrong = bytearray(token.secret)
        wrong[place] ^= 1
        near = Token(user_id=token.user_id, secret=bytes(wrong))
        assert not await api.opens(near.reveal())
        # What is looked for has nothing in common with what is there, so there is nothing to come nearer to.
        alike = sum(8 - (one ^ other).bit_count() for one, other in zip(near.digest, token.digest, strict=True))
        assert 64 < alike < 192
    assert await api.opens(token.reveal())


@pytest.mark.requirement(32, 41)
async def test_a_token_that_was_logged_out_stays_so(api: Api, clock: FakeClock) -> None:
    token = await api.sign_up()
    other = await api.log_in()
    assert (await api.call("DELETE", "/v1/sessions/current", token=token)).status == 204
    for _ in range(200):
        assert not await api.opens(token)
        assert await api.opens(other)
        clock.advance(timedelta(seconds=20))  # far enough, now and then, for the other's last use to be written


@pytest.mark.requirement(84)
@pytest.mark.would_have_caught("jwt-cve-2015-9235")
async def test_a_json_web_token_opens_nothing(api: Api) -> None:
    token = await api.sign_up()
    user = await api.me(token)

    def part(content: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    claims = part({"sub": user["id"], "email": user["email"], "exp": 4_102_444_800, "iss": "pickguard"})
    for algorithm in ("none", "None", "NONE", "HS256", "RS256"):
        head = part({"alg": algorithm, "typ": "JWT"})
        for signature in ("", part("x"), token):
            jwt = f"{head}.{claims}.{signature}"
            for guess in (jwt, f"pg_{jwt}"):
                assert (await api.call("GET", ME, token=guess)).outcome == (401, "invalid-token")
