"""How often something may be tried, as clients meet it, on a real store that counts for all processes."""

import asyncio
import json
import logging
import re
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import attrs
import pytest

from pickguard.adapters.event_log import LoggedEvents
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.clients import StoreClient
from pickguard.adapters.redis.limits import RedisRateLimiter
from pickguard.entrypoints.request_context import CURRENT_REQUEST
from tests.contracts.http_api import ME, WRONG_PASSWORD
from tests.contracts.http_mail import PERSON, Post, without_ids
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD
from tests.support.http import EMAIL, SETTINGS, TIME, Answer, serving

OWNER = "192.0.2.1"
"""Where the owner of the account registered."""
PHONE = "198.51.100.7"
"""Where nobody has been yet."""


def from_elsewhere(number: int) -> str:
    return f"203.0.{number // 250}.{number % 250 + 1}"


async def register(post: Post) -> str:
    """Register from the owner's address, and return a token of theirs."""
    assert (await post.api.call("POST", "/v1/users", PERSON, headers={"X-Forwarded-For": OWNER})).status in {201, 202}
    return await post.api.log_in(X_Forwarded_For=OWNER)


async def guess(post: Post, source: str, password: str = WRONG_PASSWORD) -> Answer:
    return await post.api.try_log_in(password=password, X_Forwarded_For=source)


async def guess_from_everywhere(post: Post, count: int = 150) -> list[Answer]:
    """Guess that many times at once, each time from another address."""
    barrier = asyncio.Barrier(count)

    async def try_once(number: int) -> Answer:
        await barrier.wait()
        return await guess(post, from_elsewhere(number), f"{WRONG_PASSWORD} {number}")

    return list(await asyncio.gather(*map(try_once, range(count))))


@pytest.mark.requirement(11, 83)
@pytest.mark.would_have_caught("keycloak-cve-2024-4629")
async def test_of_150_guesses_at_once_from_as_many_addresses_100_are_checked(proxied: Post) -> None:
    await register(proxied)
    answers = await guess_from_everywhere(proxied)
    assert Counter(answer.outcome for answer in answers) == {(401, "invalid-credentials"): 100, (429, "too-many-requests"): 50}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers if answer.status == 429)
    right, wrong = await guess(proxied, PHONE, GOOD_PASSWORD), await guess(proxied, PHONE)
    assert right.outcome == (429, "too-many-requests")
    assert without_ids(right) == without_ids(wrong)


@pytest.mark.requirement(12)
async def test_who_guesses_from_elsewhere_keeps_no_owner_out(proxied: Post) -> None:
    token = await register(proxied)
    await guess_from_everywhere(proxied)
    assert (await proxied.api.me(token))["email"] == EMAIL
    assert (await guess(proxied, PHONE, GOOD_PASSWORD)).status == 429
    assert (await guess(proxied, OWNER, GOOD_PASSWORD)).status == 201
    assert (await guess(proxied, PHONE, GOOD_PASSWORD)).status == 201  # which began the count anew


@pytest.mark.requirement(12)
async def test_a_reset_by_mail_lets_the_owner_in_from_anywhere(proxied: Post) -> None:
    await register(proxied)
    await guess_from_everywhere(proxied)
    assert (await proxied.reset(await proxied.reset_token())).status == 204
    assert (await guess(proxied, PHONE, OTHER_PASSWORD)).status == 201


@pytest.mark.requirement(12)
async def test_nobody_is_locked_out_for_good(proxied: Post) -> None:
    await register(proxied)
    answers = await guess_from_everywhere(proxied)
    assert {answer.headers["Retry-After"] for answer in answers if answer.status == 429} == {"86400"}
    proxied.clock.advance(timedelta(days=1))
    assert (await guess(proxied, PHONE, GOOD_PASSWORD)).status == 201


@pytest.mark.requirement(13)
async def test_the_right_password_begins_both_counts_anew(proxied: Post) -> None:
    await register(proxied)
    for _ in range(3):
        here = [await guess(proxied, OWNER) for _ in range(9)]
        anywhere = [await guess(proxied, from_elsewhere(number)) for number in range(90)]
        assert Counter(answer.status for answer in (*here, *anywhere)) == {401: 99}
        assert (await guess(proxied, OWNER, GOOD_PASSWORD)).status == 201


@pytest.mark.requirement(54)
@pytest.mark.would_have_caught("forwarded-for")
async def test_a_thousand_forwarding_headers_reset_no_limit(post: Post) -> None:
    await post.api.register()
    statuses: Counter[int] = Counter()
    for number in range(1000):
        other = from_elsewhere(number)
        named = {"X_Forwarded_For": other, "X_Real_IP": other, "Forwarded": f"for={other}", "X_Client_IP": other}
        statuses[(await post.api.try_log_in(password=WRONG_PASSWORD, **named)).status] += 1
    assert statuses == {401: 10, 429: 990}


@pytest.mark.requirement(54)
@pytest.mark.would_have_caught("forwarded-for")
async def test_what_a_client_puts_before_the_word_of_a_trusted_proxy_counts_for_nothing(proxied: Post) -> None:
    await register(proxied)
    answers = [await guess(proxied, f"{from_elsewhere(number)}, {PHONE}") for number in range(30)]
    assert Counter(answer.status for answer in answers) == {401: 10, 429: 20}


@pytest.mark.requirement(46, 83)
async def test_registrations_mails_and_guesses_over_all_accounts_are_limited(proxied: Post) -> None:
    people = [{**PERSON, "email": f"person{number}@example.com"} for number in range(40)]
    answers = [await proxied.api.call("POST", "/v1/users", each, headers={"X-Forwarded-For": PHONE}) for each in people]
    assert Counter(answer.outcome for answer in answers) == {(201, ""): 30, (429, "too-many-requests"): 10}
    assert {answer.headers.get("Retry-After") for answer in answers} == {None, "3600"}
    await proxied.deferred.drain()
    before = len(proxied.mail.mails)
    # The answer stays 202, or else it would tell who has an account.
    assert {(await proxied.ask_reset("person1@example.com")).status for _ in range(20)} == {202}
    await proxied.deferred.drain()
    assert len(proxied.mail.mails) - before == 4  # and one at the registration
    sprayed = [
        await proxied.api.try_log_in(f"person{number}@example.com", WRONG_PASSWORD, X_Forwarded_For=PHONE)
        for number in range(120)
    ]
    assert Counter(answer.status for answer in sprayed) == {401: 100, 429: 20}


@pytest.mark.requirement(76)
async def test_who_got_in_and_who_did_not_is_a_line_each(client: StoreClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pickguard")
    settings = attrs.evolve(SETTINGS, access_log=True)
    events = LoggedEvents(request_id=CURRENT_REQUEST.get)
    async with serving(RedisAccounts(client), events=events, limiter=RedisRateLimiter(client), settings=settings) as api:
        token = await api.sign_up()
        user = await api.me(token)
        for _ in range(11):
            await api.try_log_in(password=WRONG_PASSWORD)
        nobody = await api.try_log_in("nobody@example.com", WRONG_PASSWORD)
        refused = await api.call("GET", ME, token=f"{token[:-1]}{'0' if token[-1] != '0' else '1'}")
        proof = {"password": WRONG_PASSWORD}
        limited = await api.call("POST", "/v1/sessions/current/reauthentication", proof, token=token)
    lines: list[dict[str, Any]] = [json.loads(message) for message in caplog.messages if message.startswith("{")]
    told = [line for line in lines if "event" in line]
    assert [(line["event"], line["outcome"]) for line in told] == [
        ("UserRegistered", "success"),
        ("SessionOpened", "success"),
        *[("LogInRefused", "failure")] * 10,
        ("LimitReached", "limited"),
        ("LogInRefused", "failure"),
        ("LimitReached", "limited"),
    ]
    for line in told:
        assert TIME.fullmatch(line["time"])
        assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
        assert line["source"] == "127.0.0.1"
        assert re.fullmatch(r"[0-9a-f-]{36}", line["request_id"])
    assert [line["subject"] for line in told] == [*[user["id"]] * 13, None, user["id"]]
    assert [told[-2]["request_id"], told[-1]["request_id"]] == [each.headers["X-Request-ID"] for each in (nobody, limited)]
    # A token that opens nothing is nobody's: what there is to tell is the request.
    (line,) = (line for line in lines if line["request_id"] == refused.headers["X-Request-ID"])
    assert (line["route"], line["status"], line["ip"]) == (ME, 401, "127.0.0.1")
