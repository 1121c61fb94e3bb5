"""What the HTTP API promises people about their data. A subclass has the fixtures `accounts`, `receipts` and `limiter`."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import pytest

from pickguard.adapters.background import LoopDeferred
from pickguard.domain.model.limits import LimitRules
from pickguard.domain.model.mail import AccountRestored, DataExported, DeletionScheduled, NewDevice, ResetPassword
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.limits import RateLimiter
from pickguard.ports.receipts import Receipts
from tests.contracts.http_api import LOG_IN_MEMBERS, ME, OTHER_EMAIL, SESSION_MEMBERS, USER_MEMBERS, WRONG_PASSWORD
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, FakeClock, RecordedEvents, RecordedMail
from tests.support.http import EMAIL, TIME, Answer, Api, serving

EXPORT: Final = f"{ME}/export"
RESTORATIONS: Final = "/v1/account-restorations"
EXPORT_MEMBERS: Final = {
    "format",
    "exported_at",
    "user",
    "password",
    "sessions",
    "activity",
    "mailed_tokens",
    "registration",
    "limits",
    "withheld",
}
GRACE: Final = timedelta(days=30)


class Rights:
    """A served application with a grace for deletions, and what it tells."""

    def __init__(self, api: Api, clock: FakeClock, mail: RecordedMail, events: RecordedEvents, deferred: LoopDeferred) -> None:
        self.api = api
        self.clock = clock
        self.mail = mail
        self.events = events
        self.deferred = deferred

    async def delete(self, token: str) -> Answer:
        return await self.api.call("DELETE", ME, token=token)

    async def deleted(self) -> str:
        """Sign up and delete the account; return the token that it was done with."""
        token = await self.api.sign_up()
        assert (await self.delete(token)).status == 202
        return token

    async def restore(self, email: str = EMAIL, password: str = GOOD_PASSWORD) -> Answer:
        return await self.api.call("POST", RESTORATIONS, {"email": email, "password": password})

    async def export(self, token: str) -> Any:
        answer = await self.api.call("GET", EXPORT, token=token)
        assert answer.status == 200, answer
        return answer.json()

    async def reset_token(self, email: str = EMAIL) -> str:
        assert (await self.api.call("POST", "/v1/password-resets", {"email": email})).status == 202
        await self.deferred.drain()
        return self.mail.last(ResetPassword).token

    async def reset(self, token: str, password: str = OTHER_PASSWORD) -> Answer:
        return await self.api.call("POST", "/v1/password-resets/confirm", {"token": token, "password": password})


def shown_time(text: str) -> datetime:
    assert TIME.fullmatch(text), text
    return datetime.fromisoformat(text)


class HttpRightsContract:
    """Exports, and deletions that can be taken back."""

    @pytest.fixture
    def now_clock(self) -> FakeClock:
        """A clock that begins now: a server that lets keys expire has a clock of its own."""
        now = datetime.now(UTC)
        return FakeClock(now.replace(microsecond=now.microsecond // 1000 * 1000))

    @asynccontextmanager
    async def serve(
        self, accounts: AccountRepository, receipts: Receipts, limiter: RateLimiter, clock: FakeClock, grace: timedelta
    ) -> AsyncGenerator[Rights]:
        mail, events = RecordedMail(), RecordedEvents()
        async with (
            LoopDeferred(pauses=(), spread=timedelta(0)) as deferred,
            serving(
                accounts,
                receipts=receipts,
                limiter=limiter,
                clock=clock,
                events=events,
                mailer=mail,
                deferred=deferred,
                grace=grace,
            ) as api,
        ):
            yield Rights(api, clock, mail, events, deferred)

    @pytest.fixture
    async def rights(
        self, accounts: AccountRepository, receipts: Receipts, limiter: RateLimiter, now_clock: FakeClock
    ) -> AsyncGenerator[Rights]:
        async with self.serve(accounts, receipts, limiter, now_clock, GRACE) as rights:
            yield rights

    # Exports

    async def test_an_export_holds_all_that_is_held_and_no_secret(self, rights: Rights) -> None:
        key = str(uuid4())
        registration = {"name": "Ada", "email": EMAIL, "password": GOOD_PASSWORD}
        answer = await rights.api.call("POST", "/v1/users", registration, headers={"Idempotency-Key": key})
        user = answer.json()
        assert (await rights.api.try_log_in(password=WRONG_PASSWORD)).status == 401
        await rights.reset_token()
        tokens = [await rights.api.log_in(User_Agent="First/1"), await rights.api.log_in(User_Agent="Second/2")]
        assert (await rights.api.try_log_in(password=WRONG_PASSWORD)).status == 401
        answer = await rights.api.call("GET", EXPORT, token=tokens[0])
        assert answer.headers["Content-Disposition"] == 'attachment; filename="account.json"'
        export = answer.json()
        now = export["exported_at"]
        assert shown_time(now) == rights.clock.now()
        assert set(export) == EXPORT_MEMBERS
        assert export["format"] == 1
        assert export["user"] == {**user, "disabled": False, "deletes_at": None}
        assert set(export["user"]) == USER_MEMBERS | {"pending_email", "disabled", "deletes_at"}
        assert export["password"] == {
            "set_at": now,
            "number": 1,
            "hashed_with": {"algorithm": "argon2id", "parameters": {"v": 19, "m": 8, "t": 1, "p": 1}},
        }
        assert [set(each) for each in export["sessions"]] == [SESSION_MEMBERS] * 2
        assert sorted(each["user_agent"] for each in export["sessions"]) == ["First/1", "Second/2"]
        assert [each["current"] for each in export["sessions"] if each["user_agent"] == "First/1"] == [True]
        kinds = [each["event"] for each in export["activity"]]
        assert kinds == ["data_exported", "logged_in", "logged_in", "log_ins_failed", "reset_requested", "registered"]
        assert {each["purpose"] for each in export["mailed_tokens"]} == {"verify_address", "reset_password"}
        assert export["registration"] == {"named_itself": True, "remembered": True, "registered_at": now}
        wrong = export["limits"]["wrong_passwords"]
        assert (wrong["in_a_row"], wrong["last_at"], wrong["last_ip"]) == (1, now, "127.0.0.1")
        assert [each["recent"] for each in wrong["from_sources"]] == [[now]]
        # Of the notices, only those to an address that is not verified are counted.
        mails, others = export["limits"]["mails"], export["limits"]["mails_that_reset_nothing"]
        assert set(mails) == set(others) == {now}
        assert len(mails) == len(others) + 1
        assert export["limits"]["exports"] == [now]
        assert export["withheld"]
        for secret in (*tokens, GOOD_PASSWORD, rights.mail.last(ResetPassword).token, key, "$argon2id"):
            assert secret not in answer.body.decode()

    async def test_the_same_data_is_exported_in_the_same_bytes(self, rights: Rights) -> None:
        token = await rights.api.sign_up()
        for number in range(3):
            await rights.api.log_in(User_Agent=f"Agent/{number}")
        exports = [await rights.export(token) for _ in range(2)]
        for export in exports:
            export["activity"] = [each for each in export["activity"] if each["event"] != "data_exported"]
            export["limits"]["exports"] = export["limits"]["mails"] = export["limits"]["mails_that_reset_nothing"] = []
        assert json.dumps(exports[0]) == json.dumps(exports[1])

    async def test_an_export_is_noted_and_told(self, rights: Rights) -> None:
        token = await rights.api.sign_up()
        await rights.export(token)
        assert rights.events.names().count("DataExported") == 1
        activity = (await rights.api.call("GET", f"{ME}/activity", token=token)).json()["activity"]
        assert activity[0]["event"] == "data_exported"
        assert activity[0]["ip"] == "127.0.0.1"
        assert rights.mail.last(DataExported).to.value == EMAIL

    @pytest.mark.requirement(43)
    async def test_an_export_needs_a_password_proved_within_15_minutes(self, rights: Rights) -> None:
        token = await rights.api.sign_up()
        rights.clock.advance(timedelta(minutes=15, seconds=1))
        assert (await rights.api.call("GET", EXPORT, token=token)).outcome == (403, "reauthentication-required")
        assert "DataExported" not in rights.events.names()
        answer = await rights.api.call(
            "POST", "/v1/sessions/current/reauthentication", {"password": GOOD_PASSWORD}, token=token
        )
        assert (await rights.export(answer.json()["access_token"]))["user"]["email"] == EMAIL

    async def test_exports_are_limited_for_each_user(self, rights: Rights) -> None:
        token, most = await rights.api.sign_up(), LimitRules().exports.most
        other = await rights.api.sign_up(email=OTHER_EMAIL)
        answers = await asyncio.gather(*(rights.api.call("GET", EXPORT, token=token) for _ in range(most + 3)))
        assert sorted(answer.outcome for answer in answers) == [(200, "")] * most + [(429, "too-many-requests")] * 3
        assert (await rights.export(other))["user"]["email"] == OTHER_EMAIL

    # Deletions

    async def test_with_a_grace_a_deletion_can_be_taken_back(self, rights: Rights) -> None:
        token = await rights.api.sign_up()
        user, other = await rights.api.me(token), await rights.api.log_in()
        rights.clock.advance(timedelta(minutes=1))
        deleted = await rights.delete(token)
        assert deleted.status == 202
        assert set(deleted.json()) == {"deletes_at"}
        deletes_at = rights.clock.now() + GRACE
        assert shown_time(deleted.json()["deletes_at"]) == deletes_at
        assert [await rights.api.opens(each) for each in (token, other)] == [False, False]
        assert (
            await rights.api.call("POST", "/v1/users", {"name": "Eve", "email": EMAIL, "password": OTHER_PASSWORD})
        ).outcome == (
            409,
            "email-taken",
        )
        rights.clock.advance(GRACE - timedelta(minutes=2))
        restored = await rights.restore()
        assert restored.status == 201, restored
        content = restored.json()
        assert set(content) == LOG_IN_MEMBERS
        assert {**user, "updated_at": None} == {**content["user"], "updated_at": None}
        assert await rights.api.opens(content["access_token"])
        assert [await rights.api.opens(each) for each in (token, other)] == [False, False]
        assert len(await rights.api.sessions(content["access_token"])) == 1
        rights.clock.advance(timedelta(minutes=5))
        assert await rights.api.opens(content["access_token"])
        assert (await rights.api.try_log_in()).status == 201
        activity = (await rights.api.call("GET", f"{ME}/activity", token=content["access_token"])).json()["activity"]
        told = [each["event"] for each in activity if each["event"].startswith("deletion")]
        assert told == ["deletion_cancelled", "deletion_scheduled"]
        names = rights.events.names()
        assert [names.count(name) for name in ("DeletionScheduled", "DeletionCancelled", "UserDeleted")] == [1, 1, 0]
        assert rights.mail.last(DeletionScheduled).deletes_at == deletes_at
        assert [mail.to.value for mail in rights.mail.of(AccountRestored)] == [EMAIL]

    async def test_only_who_knows_the_password_learns_that_a_deletion_is_pending(self, rights: Rights) -> None:
        await rights.deleted()
        nobody = [await rights.api.try_log_in("nobody@example.com"), await rights.restore("nobody@example.com")]
        wrong = [await rights.api.try_log_in(password=WRONG_PASSWORD), await rights.restore(password=WRONG_PASSWORD)]
        for answer in (*nobody, *wrong):
            assert answer.outcome == (401, "invalid-credentials")
            assert answer.json() | {"instance": ""} == nobody[0].json() | {"instance": ""}
        right = await rights.api.try_log_in()
        assert right.outcome == (403, "deletion-pending")
        assert shown_time(right.json()["deletes_at"]) == rights.clock.now() + GRACE
        assert rights.events.names().count("LogInRefused") == 5
        assert not rights.mail.of(NewDevice)

    async def test_wrong_passwords_before_a_restoration_are_limited_and_told(self, rights: Rights) -> None:
        await rights.deleted()
        for _ in range(3):
            assert (await rights.restore(password=WRONG_PASSWORD)).status == 401
        assert (await rights.api.try_log_in()).status == 403
        token = (await rights.restore()).json()["access_token"]
        activity = (await rights.api.call("GET", f"{ME}/activity", token=token)).json()["activity"]
        assert [each["count"] for each in activity if each["event"] == "log_ins_failed"] == [3]
        for _ in range(10):
            assert (await rights.restore(password=WRONG_PASSWORD)).status == 401
        assert (await rights.restore()).outcome == (429, "too-many-requests")

    async def test_an_account_that_is_not_deleted_is_logged_in_to(self, rights: Rights) -> None:
        await rights.api.register()
        assert (await rights.restore()).status == 201
        assert (await rights.restore()).status == 201
        assert "DeletionCancelled" not in rights.events.names()
        assert not rights.mail.of(AccountRestored)

    async def test_when_the_time_is_over_nothing_is_left(self, rights: Rights) -> None:
        token = await rights.deleted()
        mailed = await rights.reset_token()
        rights.clock.advance(GRACE)
        for answer in (await rights.api.try_log_in(), await rights.restore()):
            assert answer.outcome == (401, "invalid-credentials")
        assert not await rights.api.opens(token)
        assert (await rights.reset(mailed)).outcome == (410, "token-spent")
        before = len(rights.mail.mails)
        assert (await rights.api.call("POST", "/v1/password-resets", {"email": EMAIL})).status == 202
        await rights.deferred.drain()
        assert len(rights.mail.mails) == before

    async def test_who_forgot_the_password_resets_it_and_restores(self, rights: Rights) -> None:
        await rights.deleted()
        assert (await rights.reset(await rights.reset_token())).status == 204
        assert (await rights.restore()).outcome == (401, "invalid-credentials")
        assert (await rights.api.try_log_in(password=OTHER_PASSWORD)).outcome == (403, "deletion-pending")
        assert (await rights.restore(password=OTHER_PASSWORD)).status == 201

    async def test_what_was_mailed_before_a_deletion_proves_nothing_after_it(self, rights: Rights) -> None:
        token = await rights.api.sign_up()
        mailed = await rights.reset_token()
        assert (await rights.delete(token)).status == 202
        assert (await rights.reset(mailed)).outcome == (410, "token-spent")

    async def test_a_deletion_with_a_grace_needs_what_every_deletion_does(self, rights: Rights) -> None:
        token = await rights.api.sign_up()
        refused = await rights.api.call("DELETE", ME, token=token, headers={"If-Match": '"other"'})
        assert refused.outcome == (412, "precondition-failed")
        rights.clock.advance(timedelta(minutes=16))
        assert (await rights.delete(token)).outcome == (403, "reauthentication-required")
        assert await rights.api.opens(token)
        assert not rights.mail.of(DeletionScheduled)

    async def test_of_two_deletions_at_once_one_is_the_one(self, rights: Rights) -> None:
        tokens = [await rights.api.sign_up(), await rights.api.log_in()]
        answers = await asyncio.gather(*(rights.delete(token) for token in tokens))
        assert sorted(answer.outcome for answer in answers) == [(202, ""), (401, "invalid-token")]
        assert rights.events.names().count("DeletionScheduled") == 1

    async def test_after_a_deletion_nothing_that_was_in_flight_authenticates(self, rights: Rights) -> None:
        token, other = await rights.api.sign_up(), await rights.api.log_in()
        deleted, *answers = await asyncio.gather(
            rights.delete(token),
            *(rights.api.try_log_in() for _ in range(4)),
            *(rights.api.call("PATCH", ME, {"name": f"Ada {number}"}, token=other) for number in range(4)),
            *(rights.api.call("GET", EXPORT, token=other) for _ in range(2)),
        )
        assert deleted.status == 202
        assert {answer.status for answer in answers} <= {200, 201, 401, 403}
        tokens = [token, other, *(answer.json()["access_token"] for answer in answers if answer.status == 201)]
        assert [await rights.api.opens(each) for each in tokens] == [False] * len(tokens)

    async def test_of_many_restorations_at_once_each_opens_a_session_and_one_restores(self, rights: Rights) -> None:
        await rights.deleted()
        answers = await asyncio.gather(*(rights.restore() for _ in range(6)))
        assert [answer.status for answer in answers] == [201] * 6
        assert rights.events.names().count("DeletionCancelled") == 1
        assert len(await rights.api.sessions(answers[0].json()["access_token"])) == 6

    async def test_without_a_grace_a_deletion_is_final_at_once(
        self, accounts: AccountRepository, receipts: Receipts, limiter: RateLimiter, now_clock: FakeClock
    ) -> None:
        async with self.serve(accounts, receipts, limiter, now_clock, timedelta(0)) as rights:
            token = await rights.api.sign_up()
            answer = await rights.delete(token)
            assert (answer.status, answer.body) == (204, b"")
            assert (await rights.restore()).outcome == (401, "invalid-credentials")
            assert not rights.mail.of(DeletionScheduled)
            await rights.api.register()
