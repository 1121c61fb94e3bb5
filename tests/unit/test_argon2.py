"""Argon2id: what is hashed, what is verified, and what a stored hash may be."""

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import NoReturn

import argon2
import pytest

from pickguard.adapters.argon2 import Argon2Hasher, Argon2Parameters, available_cores
from pickguard.domain.model.errors import HashingOverloaded
from pickguard.ports.hashing import Purpose
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, cheap_hasher


async def hashed(hasher: Argon2Hasher, password: str = GOOD_PASSWORD) -> str:
    return await hasher.hash(password, purpose=Purpose.REGISTRATION)


async def verified(hasher: Argon2Hasher, password_hash: str | None, password: str = GOOD_PASSWORD) -> bool:
    return await hasher.verify(password_hash, password, purpose=Purpose.LOG_IN)


async def test_a_password_matches_its_hash_and_no_other() -> None:
    async with cheap_hasher() as hasher:
        one, other = await hashed(hasher), await hashed(hasher)
        assert one != other
        assert await verified(hasher, one)
        assert await verified(hasher, other)
        assert not await verified(hasher, one, OTHER_PASSWORD)


@pytest.mark.requirement(60)
async def test_the_default_cost_is_what_owasp_asks_for() -> None:
    async with Argon2Hasher(threads=1) as hasher:
        assert (await hashed(hasher)).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_a_hash_of_other_parameters_needs_a_rehash() -> None:
    parameters = Argon2Parameters(memory_kib=16, time_cost=1)
    async with cheap_hasher() as weak, Argon2Hasher(parameters=parameters) as strong:
        stored = await hashed(weak)
        assert not weak.needs_rehash(stored)
        assert strong.needs_rehash(stored)
        assert await verified(strong, stored)


async def test_there_are_as_many_threads_as_cores_by_default() -> None:
    async with Argon2Hasher() as hasher:
        assert hasher._pool.threads == available_cores() >= 1


# What is stored, what is given


@pytest.mark.requirement(17)
@pytest.mark.would_have_caught("gotrue-2223", "openssh-cve-2016-6210")
async def test_a_log_in_for_nobody_takes_a_real_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | bytes] = []
    real = argon2.PasswordHasher.verify

    def watched(self: argon2.PasswordHasher, stored: str | bytes, password: str | bytes) -> bool:
        seen.append(stored)
        return real(self, stored, password)

    async with cheap_hasher() as hasher:
        stored = await hashed(hasher)
        monkeypatch.setattr(argon2.PasswordHasher, "verify", watched)
        assert not await verified(hasher, None)
        (decoy,) = map(str, seen)
        assert argon2.extract_parameters(decoy) == argon2.extract_parameters(stored)
        assert len(decoy) == len(stored)
        # It is read as a hash is, to its end: what is wrong is the password.
        with pytest.raises(argon2.exceptions.VerifyMismatchError):
            real(hasher._hasher, decoy, "")


async def test_no_two_processes_have_one_decoy() -> None:
    async with cheap_hasher() as one, cheap_hasher() as other:
        assert one._decoy != other._decoy


@pytest.mark.parametrize("secret", ["", "\0", "\ud800", "x\udcff", "\ud83d\ude00"])
async def test_a_password_that_nobody_can_have_matches_nothing(secret: str) -> None:
    async with cheap_hasher() as hasher:
        stored = await hashed(hasher, "\N{GRINNING FACE}")
        assert [await verified(hasher, each, secret) for each in (None, stored)] == [False, False]


STORED = {
    "nothing": "",
    "a word": "x",
    "a header alone": "$argon2id$",
    "no hash": "$argon2id$v=19$m=8,t=1,p=1$",
    "another function": "$2b$12$C6UzMDM.H6dfI/f/IKcEeO3UQ1h0p3mM2CnjUQdV4FfZxF8n8rwE.",
    "more memory than there is": "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b1EWg",
    "a control character": "$argon2id$\0",
    "a letter that is not ASCII": "$argon2id$v=19$m=8,t=1,p=1$sält$",
    "a lone surrogate": "$argon2id$\ud800",
}


@pytest.mark.parametrize("stored", STORED.values(), ids=STORED)
async def test_a_stored_hash_that_cannot_be_read_matches_nothing(stored: str) -> None:
    async with cheap_hasher(threads=1) as hasher:
        assert not await verified(hasher, stored, "")
        assert await verified(hasher, await hashed(hasher))


BEYOND = {
    "memory": "$argon2id$v=19$m=4194305,t=1,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b1EWg",
    "passes": "$argon2id$v=19$m=8,t=101,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b1EWg",
    "passes, the most there are": "$argon2id$v=19$m=8,t=4294967295,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b1EWg",
    "lanes": "$argon2id$v=19$m=520,t=1,p=65$c29tZXNhbHQ$RdescudvJCsgt3ub+b1EWg",
    "memory times passes": "$argon2id$v=19$m=4194304,t=5,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b1EWg",
    "numbers beyond any": f"$argon2id$v=19$m={'9' * 5000},t=1,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b1EWg",
    "too little memory for its lanes": "$argon2id$v=19$m=15,t=1,p=2$c29tZXNhbHQ$RdescudvJCsgt3ub+b1EWg",
    "of Django": "argon2$argon2id$v=19$m=8,t=101,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b1EWg",
}


@pytest.mark.parametrize("stored", BEYOND.values(), ids=BEYOND)
async def test_parameters_beyond_the_bounds_are_not_obeyed(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> NoReturn:
        raise AssertionError("it was obeyed")

    async with cheap_hasher() as hasher:
        monkeypatch.setattr(argon2.PasswordHasher, "verify", fail)
        assert not hasher.can_verify(stored)
        assert not await verified(hasher, stored)


@pytest.mark.parametrize(
    "more",
    [
        {"memory_kib": 4_194_305},
        {"memory_kib": 4_194_304, "time_cost": 5},
        {"time_cost": 101},
        {"time_cost": 0},
        {"parallelism": 65},
        {"memory_kib": 31, "parallelism": 4},
    ],
)
def test_no_hash_is_made_that_would_not_be_obeyed(more: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at most 4194304 KiB"):
        Argon2Parameters(**more)


def test_the_costliest_hash_there_is_can_be_chosen() -> None:
    assert Argon2Parameters(memory_kib=4_194_304, time_cost=4, parallelism=64).time_cost == 4


@pytest.mark.parametrize("version", [16, 19])
@pytest.mark.parametrize("kind", [argon2.Type.ID, argon2.Type.I, argon2.Type.D], ids=lambda kind: kind.name)
async def test_hashes_of_every_kind_of_argon2_are_verified_and_renewed(kind: argon2.Type, version: int) -> None:
    made = argon2.low_level.hash_secret(GOOD_PASSWORD.encode(), b"somesalt", 2, 16, 2, 24, kind, version).decode()
    async with cheap_hasher() as hasher:
        for stored in (made, f"argon2{made}"):  # as Django writes it
            assert hasher.can_verify(stored)
            assert hasher.needs_rehash(stored)
            assert await verified(hasher, stored)
            assert not await verified(hasher, stored, OTHER_PASSWORD)
            for cut in range(len(stored)):
                assert not await verified(hasher, stored[:cut])


async def test_hashes_of_django_are_verified() -> None:
    stored = "argon2$argon2i$v=19$m=64,t=1,p=1$Rei9V4rRmtPamzNmzDnHWA$EOx6l1e3qpxlSJmXY1JePzHzuHa6E+BcNQRZsuU8/LU"
    async with cheap_hasher() as hasher:
        assert await verified(hasher, stored, "pâté 🍎 horse")
        assert not await verified(hasher, stored)


@pytest.mark.parametrize("stored", STORED.values(), ids=STORED)
async def test_what_cannot_be_read_cannot_be_verified_and_needs_a_rehash(stored: str) -> None:
    async with cheap_hasher() as hasher:
        assert not hasher.can_verify(stored)
        assert hasher.needs_rehash(stored)


async def test_base64_that_stands_for_nothing_is_not_read() -> None:
    async with cheap_hasher() as hasher:
        stored = await hashed(hasher)
        assert hasher.can_verify(stored)
        assert not hasher.can_verify(stored[:-2])
        last = {"A": "B"}.get(stored[-1], chr(ord(stored[-1]) + 1))
        assert not hasher.can_verify(stored[:-1] + last)


async def test_memory_that_another_function_cannot_have_is_no_wrong_password() -> None:
    class Exhausting:
        def recognise(self, password_hash: str) -> Callable[[bytes], bool] | None:
            assert password_hash == "$other$"

            def fail(_: bytes) -> NoReturn:
                raise MemoryError

            return fail

    async with cheap_hasher(foreign=Exhausting()) as hasher:
        with pytest.raises(HashingOverloaded):
            await verified(hasher, "$other$")


async def test_a_password_that_cannot_be_hashed_frees_its_thread() -> None:
    async with cheap_hasher(threads=1) as hasher:
        with pytest.raises(UnicodeEncodeError):
            await hashed(hasher, "\ud800")
        assert await verified(hasher, await hashed(hasher))


async def test_memory_that_cannot_be_had_is_no_wrong_password(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cheap_hasher() as hasher:
        stored = await hashed(hasher)

        def fail(*_: object) -> NoReturn:
            raise argon2.exceptions.VerificationError(argon2.low_level.error_to_str(-22))

        monkeypatch.setattr(argon2.PasswordHasher, "verify", fail)
        with pytest.raises(HashingOverloaded):
            await verified(hasher, stored)

        def fail_to_hash(*_: object) -> NoReturn:
            raise argon2.exceptions.HashingError(argon2.low_level.error_to_str(-22))

        monkeypatch.setattr(argon2.PasswordHasher, "hash", fail_to_hash)
        with pytest.raises(HashingOverloaded):
            await hashed(hasher)


async def test_what_a_request_has_waited_already_counts_for_both() -> None:
    async with cheap_hasher(threads=1, wait_budget=timedelta(minutes=1)) as hasher:
        stored = await hashed(hasher)
        spent = timedelta(minutes=1)
        begun, ended = threading.Event(), threading.Event()

        def keep_the_thread() -> None:
            begun.set()
            assert ended.wait(60)

        busy = asyncio.create_task(hasher._pool.run(keep_the_thread, purpose=Purpose.LOG_IN))
        try:
            assert await asyncio.to_thread(begun.wait, 60)
            waiting = [
                asyncio.create_task(hasher.hash(GOOD_PASSWORD, purpose=Purpose.PROOF, spent=spent)),
                asyncio.create_task(hasher.verify(stored, GOOD_PASSWORD, purpose=Purpose.PROOF, spent=spent)),
            ]
            await asyncio.sleep(0)  # each has asked; one that was not refused at once has its turn below
        finally:
            ended.set()
            await busy
        refused = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in refused] == [HashingOverloaded] * 2
