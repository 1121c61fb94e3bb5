"""What the HTTP API promises where there is mail, limits and activity. A subclass has `accounts`, `receipts` and `limiter`."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import attrs
import pytest

from pickguard.adapters.background import LoopDeferred
from pickguard.adapters.memory_limits import Unlimited
from pickguard.domain.model.mail import (
    AddressChangeRequested,
    AlreadyRegistered,
    ConfirmNewAddress,
    NewDevice,
    PasswordChanged,
    ResetPassword,
    TokenMail,
    VerifyAddress,
)
from pickguard.domain.services.registration import RegistrationMode
from pickguard.entrypoints.settings import Settings
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.limits import RateLimiter
from pickguard.ports.receipts import Receipts
from tests.contracts.http_api import ME, OTHER_EMAIL, USER_MEMBERS, WRONG_PASSWORD
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, FakeClock, RecordedEvents, RecordedMail, RecordedPace
from tests.support.http import EMAIL, NAME, SETTINGS, TIME, Answer, Api, serving

VERIFICATIONS = "/v1/email-verifications"
RESETS = "/v1/password-resets"
ACTIVITY = f"{ME}/activity"
PERSON = {"name": NAME, "email": EMAIL, "password": GOOD_PASSWORD}
UNKNOWN_TOKEN = f"pgm_{'A' * 64}c81fa14b"
"""Well-formed: only the store knows that it proves nothing."""


@attrs.frozen(kw_only=True)
class Post:
    """A served application, and the mails that it posts."""

    api: Api
    mail: RecordedMail
    deferred: LoopDeferred
    clock: FakeClock
    events: RecordedEvents

    async def token(self, kind: type[TokenMail]) -> str:
        """Return the token of the last mail of a kind, when all that is to be done has been done."""
        await self.deferred.drain()
        return self.mail.last(kind).token

    async def confirm(self, token: str) -> Answer:
        return await self.api.call("POST", f"{VERIFICATIONS}/confirm", {"token": token})

    async def decline(self, token: str) -> Answer:
        return await self.api.call("POST", f"{VERIFICATIONS}/decline", {"token": token})

    async def ask_reset(self, email: str = EMAIL) -> Answer:
        return await self.api.call("POST", RESETS, {"email": email})

    async def reset(self, token: str, password: str = OTHER_PASSWORD) -> Answer:
        return await self.api.call("POST", f"{RESETS}/confirm", {"token": token, "password": password})

    async def reset_token(self) -> str:
        assert (await self.ask_reset()).status == 202
        return await self.token(ResetPassword)


def without_ids(answer: Answer) -> tuple[int, dict[str, str], Any]:
    """Return all of an answer that may not tell one address from another."""
    headers = {name: value for name, value in answer.headers.items() if name not in {"X-Request-ID", "Date"}}
    body = answer.json() if answer.body else None
    if isinstance(body, dict):
        body.pop("instance", None)
    return answer.status, headers, body


class HttpMailContract:
    """Tests of what needs mail, of the limits, and of activity."""

    @pytest.fixture
    async def post(self, accounts: AccountRepository, receipts: Receipts) -> AsyncGenerator[Post]:
        async with self.serve(accounts, receipts, Unlimited()) as post:
            yield post

    @pytest.fixture
    async def limited(self, accounts: AccountRepository, receipts: Receipts, limiter: RateLimiter) -> AsyncGenerator[Post]:
        async with self.serve(accounts, receipts, limiter) as post:
            yield post

    @pytest.fixture
    async def private(self, accounts: AccountRepository, receipts: Receipts, limiter: RateLimiter) -> AsyncGenerator[Post]:
        async with self.serve(accounts, receipts, limiter, mode=RegistrationMode.PRIVATE) as post:
            yield post

    @staticmethod
    @contextlib.asynccontextmanager
    async def serve(
        accounts: AccountRepository,
        receipts: Receipts,
        limiter: RateLimiter,
        *,
        mode: RegistrationMode = RegistrationMode.OPEN,
        settings: Settings = SETTINGS,
    ) -> AsyncGenerator[Post]:
        clock, events, mail, deferred = FakeClock(), RecordedEvents(), RecordedMail(), LoopDeferred(spread=timedelta(0))
        async with (
            deferred,
            serving(
                accounts,
                receipts=receipts,
                clock=clock,
                events=events,
                limiter=limiter,
                mailer=mail,
                deferred=deferred,
                pace=RecordedPace(),
                mode=mode,
                settings=settings,
            ) as api,
        ):
            yield Post(api=api, mail=mail, deferred=deferred, clock=clock, events=events)

    # Verification

    async def test_a_user_says_whether_an_address_is_pending(self, post: Post) -> None:
        user = await post.api.register()
        assert set(user) == {*USER_MEMBERS, "pending_email"}
        assert user["pending_email"] is None
        logged_in = (await post.api.try_log_in()).json()
        assert logged_in["user"] == user
        assert await post.api.me(logged_in["access_token"]) == user

    @pytest.mark.requirement(18)
    async def test_an_address_is_verified_by_the_token_that_was_mailed_once(self, post: Post) -> None:
        token = await post.api.sign_up()
        mailed = await post.token(VerifyAddress)
        assert (await post.confirm(mailed)).status == 204
        assert (await post.api.me(token))["email_verified"] is True
        assert (await post.confirm(mailed)).outcome == (410, "token-spent")

    @pytest.mark.requirement(18, 45)
    @pytest.mark.would_have_caught("kratos-codes", "keycloak-26106")
    async def test_of_32_confirmations_at_once_one_succeeds(self, post: Post) -> None:
        await post.api.register()
        mailed = await post.token(VerifyAddress)
        answers = await asyncio.gather(*(post.confirm(mailed) for _ in range(32)))
        assert Counter(answer.outcome for answer in answers) == {(204, ""): 1, (410, "token-spent"): 31}

    async def test_a_mail_can_be_asked_for_again_and_voids_the_first(self, post: Post) -> None:
        token = await post.api.sign_up()
        first = await post.token(VerifyAddress)
        answer = await post.api.call("POST", VERIFICATIONS, token=token)
        assert (answer.status, answer.body) == (202, b"")
        assert (await post.confirm(first)).outcome == (410, "token-spent")
        assert (await post.confirm(await post.token(VerifyAddress))).status == 204
        assert (await post.api.call("POST", VERIFICATIONS)).outcome == (401, "authentication-required")

    @pytest.mark.parametrize("way", ["confirm", "decline"])
    @pytest.mark.parametrize("token", ["", "garbage", UNKNOWN_TOKEN, "pg_" + "A" * 72, "\x00", "\ud800", "a" * 10_000])
    async def test_what_is_no_token_is_spent(self, post: Post, way: str, token: str) -> None:
        assert (await post.api.call("POST", f"{VERIFICATIONS}/{way}", {"token": token})).outcome == (410, "token-spent")

    @pytest.mark.parametrize("path", [f"{VERIFICATIONS}/confirm", f"{VERIFICATIONS}/decline"])
    async def test_a_body_without_a_token_names_the_fault(self, post: Post, path: str) -> None:
        assert (await post.api.call("POST", path, {})).faults == [("#/token", "required")]
        assert (await post.api.call("POST", path, {"token": 1, "email": EMAIL})).faults == [
            ("#/email", "unknown_field"),
            ("#/token", "wrong_type"),
        ]

    async def test_a_declined_account_is_gone_and_its_address_free(self, post: Post) -> None:
        token = await post.api.sign_up()
        mailed = await post.token(VerifyAddress)
        assert (await post.decline(mailed)).status == 204
        assert (await post.api.call("GET", ME, token=token)).outcome == (401, "invalid-token")
        assert (await post.decline(mailed)).outcome == (410, "token-spent")
        await post.api.register()

    async def test_a_verified_account_cannot_be_declined(self, post: Post) -> None:
        await post.api.register()
        mailed = await post.token(VerifyAddress)
        await post.confirm(mailed)
        assert (await post.decline(mailed)).outcome == (410, "token-spent")
        await post.api.log_in()

    @pytest.mark.requirement(18)
    async def test_a_verification_lives_a_day(self, post: Post) -> None:
        await post.api.register()
        mailed = await post.token(VerifyAddress)
        post.clock.advance(timedelta(hours=24))
        assert (await post.confirm(mailed)).outcome == (410, "token-spent")

    # Changes of address

    @pytest.mark.requirement(16)
    async def test_a_new_address_waits_for_its_confirmation(self, post: Post) -> None:
        token = await post.api.sign_up()
        await post.confirm(await post.token(VerifyAddress))
        before = await post.api.call("GET", ME, token=token)
        answer = await post.api.call("PATCH", ME, {"email": OTHER_EMAIL, "current_password": GOOD_PASSWORD}, token=token)
        assert answer.status == 200
        user = answer.json()
        assert (user["email"], user["email_verified"], user["pending_email"]) == (EMAIL, True, OTHER_EMAIL)
        assert answer.etag != before.etag
        assert (await post.api.call("GET", ME, token=token)).etag == answer.etag
        assert post.mail.last(AddressChangeRequested).to.value == EMAIL
        assert post.mail.last(ConfirmNewAddress).to.value == OTHER_EMAIL
        await post.api.log_in()
        assert (await post.confirm(await post.token(ConfirmNewAddress))).status == 204
        user = await post.api.me(token)
        assert (user["email"], user["email_verified"], user["pending_email"]) == (OTHER_EMAIL, True, None)
        assert (await post.api.try_log_in()).outcome == (401, "invalid-credentials")
        await post.api.log_in(OTHER_EMAIL)

    @pytest.mark.requirement(45)
    async def test_whoever_confirms_a_pending_address_first_has_it(self, post: Post) -> None:
        wanted = "wanted@example.com"
        tokens = []
        for email in (EMAIL, OTHER_EMAIL):
            token = await post.api.sign_up(email=email)
            change = {"email": wanted, "current_password": GOOD_PASSWORD}
            assert (await post.api.call("PATCH", ME, change, token=token)).status == 200
            tokens.append(await post.token(ConfirmNewAddress))
        answers = await asyncio.gather(*(post.confirm(token) for token in tokens * 8))
        outcomes = Counter(answer.outcome for answer in answers)
        assert outcomes[204, ""] == 1
        assert set(outcomes) <= {(204, ""), (409, "email-taken"), (410, "token-spent")}
        await post.api.log_in(wanted)

    async def test_an_address_that_was_registered_meanwhile_is_taken(self, post: Post) -> None:
        token = await post.api.sign_up()
        await post.api.call("PATCH", ME, {"email": OTHER_EMAIL, "current_password": GOOD_PASSWORD}, token=token)
        mailed = await post.token(ConfirmNewAddress)
        await post.api.register(email=OTHER_EMAIL)
        assert (await post.confirm(mailed)).outcome == (409, "email-taken")
        assert (await post.api.me(token))["email"] == EMAIL
        change = {"email": OTHER_EMAIL, "current_password": GOOD_PASSWORD}
        assert (await post.api.call("PATCH", ME, change, token=token)).outcome == (409, "email-taken")

    @pytest.mark.requirement(35)
    async def test_an_address_without_the_password_is_not_even_pending(self, post: Post) -> None:
        token = await post.api.sign_up()
        change = {"email": OTHER_EMAIL, "current_password": WRONG_PASSWORD}
        assert (await post.api.call("PATCH", ME, change, token=token)).outcome == (403, "wrong-password")
        assert (await post.api.me(token))["pending_email"] is None
        assert not post.mail.of(ConfirmNewAddress)

    # Resets

    @pytest.mark.requirement(16, 34)
    @pytest.mark.would_have_caught("keycloak-8920")
    async def test_a_reset_ends_every_session_and_verifies_the_address(self, post: Post) -> None:
        tokens = [await post.api.sign_up(), *[await post.api.log_in() for _ in range(2)]]
        mailed = await post.reset_token()
        assert (await post.reset(mailed)).status == 204
        for token in tokens:
            assert (await post.api.call("GET", ME, token=token)).outcome == (401, "invalid-token")
        assert (await post.api.try_log_in()).outcome == (401, "invalid-credentials")
        token = await post.api.log_in(password=OTHER_PASSWORD)
        assert (await post.api.me(token))["email_verified"] is True
        assert (await post.reset(mailed)).outcome == (410, "token-spent")
        assert post.mail.last(PasswordChanged).to.value == EMAIL

    @pytest.mark.requirement(18, 45)
    @pytest.mark.would_have_caught("kratos-codes", "keycloak-26106")
    async def test_of_32_resets_at_once_one_succeeds(self, post: Post) -> None:
        await post.api.register()
        mailed = await post.reset_token()
        answers = await asyncio.gather(*(post.reset(mailed, f"{OTHER_PASSWORD} {number}") for number in range(32)))
        assert Counter(answer.outcome for answer in answers) == {(204, ""): 1, (410, "token-spent"): 31}
        logged_in = await asyncio.gather(*(post.api.try_log_in(password=f"{OTHER_PASSWORD} {number}") for number in range(32)))
        assert sorted(answer.status for answer in logged_in) == [201] + [401] * 31
        assert [answer.status for answer in logged_in].index(201) == [answer.status for answer in answers].index(204)

    @pytest.mark.requirement(34)
    @pytest.mark.would_have_caught("romm-4635")
    async def test_a_reset_against_log_ins_leaves_no_session_of_the_old_password(self, post: Post) -> None:
        await post.api.register()
        mailed = await post.reset_token()
        answers = await asyncio.gather(*(post.api.try_log_in() for _ in range(6)), post.reset(mailed))
        assert answers[-1].status == 204
        for answer in answers[:-1]:
            if answer.status == 201:
                token = answer.json()["access_token"]
                assert (await post.api.call("GET", ME, token=token)).outcome == (401, "invalid-token")

    async def test_only_a_success_spends_a_reset(self, post: Post) -> None:
        await post.api.register()
        mailed = await post.reset_token()
        assert (await post.reset(mailed, "short")).faults == [("#/password", "password_too_short")]
        assert (await post.reset(mailed, EMAIL)).faults == [("#/password", "password_guessable")]
        assert (await post.api.call("POST", f"{RESETS}/confirm", {"token": mailed})).faults == [("#/password", "required")]
        assert (await post.reset(mailed)).status == 204

    @pytest.mark.parametrize("token", [UNKNOWN_TOKEN, "garbage"])
    async def test_a_password_that_breaks_a_rule_is_named_whatever_the_token_is_worth(self, post: Post, token: str) -> None:
        assert (await post.reset(token, "short")).faults == [("#/password", "password_too_short")]
        assert (await post.reset(token, "x7k2" * 64 + "z")).faults == [("#/password", "password_too_long")]
        assert (await post.reset(token)).outcome == (410, "token-spent")

    @pytest.mark.requirement(23)
    async def test_a_reset_lives_ten_minutes(self, post: Post) -> None:
        await post.api.register()
        mailed = await post.reset_token()
        post.clock.advance(timedelta(minutes=10, seconds=1))
        assert (await post.reset(mailed)).outcome == (410, "token-spent")

    async def test_a_new_password_and_a_newer_token_void_a_reset(self, post: Post) -> None:
        token = await post.api.sign_up()
        first = await post.reset_token()
        second = await post.reset_token()
        assert (await post.reset(first)).outcome == (410, "token-spent")
        change = {"password": OTHER_PASSWORD, "current_password": GOOD_PASSWORD}
        assert (await post.api.call("PATCH", ME, change, token=token)).status == 200
        assert (await post.reset(second)).outcome == (410, "token-spent")

    @pytest.mark.requirement(24)
    async def test_a_token_is_for_its_purpose_and_its_account_only(self, post: Post) -> None:
        await post.api.register()
        verify, reset = await post.token(VerifyAddress), await post.reset_token()
        assert (await post.confirm(reset)).outcome == (410, "token-spent")
        assert (await post.decline(reset)).outcome == (410, "token-spent")
        assert (await post.reset(verify)).outcome == (410, "token-spent")
        await post.api.register(email=OTHER_EMAIL)
        other = await post.token(VerifyAddress)
        assert (await post.reset(other)).outcome == (410, "token-spent")
        assert (await post.confirm(other)).status == 204
        token = await post.api.log_in()
        assert (await post.api.me(token))["email_verified"] is False

    @pytest.mark.requirement(43)
    async def test_a_reset_before_it_was_asked_for_is_refused(self, post: Post) -> None:
        await post.api.register()
        assert (await post.reset(UNKNOWN_TOKEN)).outcome == (410, "token-spent")

    @pytest.mark.requirement(17)
    @pytest.mark.would_have_caught("gotrue-338")
    @pytest.mark.parametrize("email", [EMAIL, "nobody@example.com", "no address", "", "\ud800", "x" * 5_000])
    async def test_a_request_for_a_reset_is_answered_alike_for_any_string(self, post: Post, email: str) -> None:
        await post.api.register()
        one, other = await post.ask_reset(email), await post.ask_reset("nobody.else@example.com")
        assert without_ids(one) == without_ids(other)
        assert (one.status, one.body) == (202, b"")

    async def test_a_request_for_a_reset_that_is_no_string_names_the_fault(self, post: Post) -> None:
        assert (await post.api.call("POST", RESETS, {})).faults == [("#/email", "required")]
        assert (await post.api.call("POST", RESETS, {"email": None})).faults == [("#/email", "wrong_type")]

    @pytest.mark.would_have_caught("pre-hijacking")
    async def test_whoever_registered_an_address_before_its_owner_gains_nothing(self, post: Post) -> None:
        """Pre-account take-over: the attacker waits with sessions, a pending address and the password."""
        attackers = await post.api.sign_up(password=OTHER_PASSWORD)
        verify = await post.token(VerifyAddress)
        change = {"email": "attacker@example.com", "current_password": OTHER_PASSWORD}
        assert (await post.api.call("PATCH", ME, change, token=attackers)).status == 200
        pending = await post.token(ConfirmNewAddress)
        assert (await post.reset(await post.reset_token(), GOOD_PASSWORD)).status == 204
        assert (await post.api.call("GET", ME, token=attackers)).outcome == (401, "invalid-token")
        assert (await post.api.try_log_in(password=OTHER_PASSWORD)).outcome == (401, "invalid-credentials")
        for mailed in (verify, pending):
            assert (await post.confirm(mailed)).outcome == (410, "token-spent")
        user = await post.api.me(await post.api.log_in())
        assert (user["email"], user["email_verified"], user["pending_email"]) == (EMAIL, True, None)

    # Notices

    @pytest.mark.requirement(16)
    async def test_a_log_in_from_a_new_device_is_told(self, post: Post) -> None:
        await post.api.register()
        await post.api.log_in()
        assert not post.mail.of(NewDevice)
        for _ in range(2):
            await post.api.log_in(User_Agent="Another/1.0")
        (notice,) = post.mail.of(NewDevice)
        assert (notice.to.value, notice.client.user_agent) == (EMAIL, "Another/1.0")

    @pytest.mark.would_have_caught("gitlab-cve-2023-7028")
    async def test_mail_goes_to_the_address_as_it_is_stored(self, post: Post) -> None:
        await post.api.register(email="Ada@Example.com")
        await post.ask_reset("aDA@EXAMPLE.COM")
        await post.deferred.drain()
        assert {mail.to.value for mail in post.mail.mails} == {"Ada@example.com"}

    # Private registration

    @pytest.mark.requirement(17)
    async def test_private_registration_is_answered_alike_and_told_by_mail(self, private: Post) -> None:
        first = await private.api.call("POST", "/v1/users", PERSON)
        second = await private.api.call("POST", "/v1/users", {**PERSON, "password": OTHER_PASSWORD})
        assert (first.status, first.body) == (202, b"")
        assert "Location" not in first.headers
        assert without_ids(first) == without_ids(second)
        await private.deferred.drain()
        assert [type(mail) for mail in private.mail.mails] == [VerifyAddress, AlreadyRegistered]
        unverified, unknown = await private.api.try_log_in(), await private.api.try_log_in("nobody@example.com")
        assert unverified.outcome == (401, "invalid-credentials")
        assert without_ids(unverified) == without_ids(unknown)
        assert (await private.confirm(await private.token(VerifyAddress))).status == 204
        await private.api.log_in()

    async def test_private_registration_names_faults_like_an_open_one(self, private: Post) -> None:
        assert (await private.api.call("POST", "/v1/users", {**PERSON, "password": "short"})).faults == [
            ("#/password", "password_too_short")
        ]

    async def test_closed_registration_is_refused(self, accounts: AccountRepository, receipts: Receipts) -> None:
        async with self.serve(accounts, receipts, Unlimited(), mode=RegistrationMode.CLOSED) as post:
            assert (await post.api.call("POST", "/v1/users", PERSON)).outcome == (403, "registration-closed")
            assert (await post.api.call("POST", "/v1/users", {})).outcome == (403, "registration-closed")

    # Limits

    @pytest.mark.requirement(17, 83)
    @pytest.mark.parametrize("email", [EMAIL, "nobody@example.com"])
    async def test_the_eleventh_wrong_password_is_refused_whether_or_not_there_is_an_account(
        self, limited: Post, email: str
    ) -> None:
        await limited.api.register()
        answers = [await limited.api.try_log_in(email, WRONG_PASSWORD) for _ in range(11)]
        assert [answer.status for answer in answers] == [401] * 10 + [429]
        assert answers[-1].outcome == (429, "too-many-requests")
        assert answers[-1].headers["Retry-After"] == "900"
        assert (await limited.api.try_log_in(email, GOOD_PASSWORD)).outcome == (429, "too-many-requests")
        limited.clock.advance(timedelta(minutes=15))
        assert (await limited.api.try_log_in(email, WRONG_PASSWORD)).status == 401

    @pytest.mark.would_have_caught("keycloak-cve-2024-4629")
    async def test_parallel_guesses_pass_the_limit_no_more_than_sequential_ones(self, limited: Post) -> None:
        await limited.api.register()
        answers = await asyncio.gather(*(limited.api.try_log_in(password=f"{WRONG_PASSWORD} {n}") for n in range(40)))
        assert Counter(answer.status for answer in answers) == {401: 10, 429: 30}

    @pytest.mark.requirement(13)
    async def test_right_passwords_are_not_counted_and_begin_the_count_anew(self, limited: Post) -> None:
        await limited.api.register()
        for _ in range(2):
            answers = [await limited.api.try_log_in(password=WRONG_PASSWORD) for _ in range(9)]
            assert {answer.status for answer in answers} == {401}
            logged_in = await asyncio.gather(*(limited.api.try_log_in() for _ in range(20)))
            assert {answer.status for answer in logged_in} == {201}

    @pytest.mark.requirement(11)
    async def test_wrong_passwords_are_one_count_wherever_they_are_given(self, limited: Post) -> None:
        token = await limited.api.sign_up()
        statuses = []
        for number in range(4):
            change = {"password": OTHER_PASSWORD, "current_password": f"{WRONG_PASSWORD} {number}"}
            proof = {"password": f"{WRONG_PASSWORD} {number}"}
            statuses += [
                (await limited.api.call("PATCH", ME, change, token=token)).status,
                (await limited.api.call("POST", "/v1/sessions/current/reauthentication", proof, token=token)).status,
                (await limited.api.try_log_in(password=WRONG_PASSWORD)).status,
            ]
        assert statuses == [403, 403, 401] * 3 + [403, 429, 429]
        assert (await limited.api.call("GET", ME, token=token)).status == 200

    @pytest.mark.requirement(46)
    async def test_registrations_are_limited(self, limited: Post) -> None:
        answers = [
            await limited.api.call("POST", "/v1/users", {**PERSON, "email": f"user{number}@example.com"})
            for number in range(31)
        ]
        assert [answer.status for answer in answers] == [201] * 30 + [429]
        limited.clock.advance(timedelta(hours=1))
        await limited.api.register()

    @pytest.mark.requirement(46)
    @pytest.mark.would_have_caught("supabase-js-1690")
    async def test_mails_are_limited_and_the_answer_stays(self, limited: Post) -> None:
        await limited.api.register()
        answers = [await limited.ask_reset() for _ in range(20)]
        assert {answer.status for answer in answers} == {202}
        await limited.deferred.drain()
        assert len(limited.mail.mails) == 5

    # Activity

    async def test_activity_is_shown_newest_first(self, post: Post) -> None:
        await post.api.sign_up()
        await post.api.try_log_in(password=WRONG_PASSWORD)
        token = await post.api.log_in(User_Agent="Another/1.0")
        await post.api.call("PATCH", ME, {"name": "Grace"}, token=token)
        answer = await post.api.call("GET", ACTIVITY, token=token)
        assert answer.status == 200
        entries = answer.json()["activity"]
        assert [entry["event"] for entry in entries] == ["renamed", "logged_in", "logged_in", "registered"]
        for entry in entries:
            assert set(entry) == {"event", "at", "ip", "user_agent", "count"}
            assert TIME.fullmatch(entry["at"])
            assert (entry["ip"], entry["count"]) == ("127.0.0.1", 1)
        assert entries[1]["user_agent"] == "Another/1.0"
        assert (await post.api.call("GET", ACTIVITY)).outcome == (401, "authentication-required")

    async def test_activity_tells_of_wrong_passwords(self, limited: Post) -> None:
        token = await limited.api.sign_up()
        for _ in range(3):
            await limited.api.try_log_in(password=WRONG_PASSWORD)
        await limited.api.log_in()
        entries = (await limited.api.call("GET", ACTIVITY, token=token)).json()["activity"]
        assert [(entry["event"], entry["count"]) for entry in entries[:2]] == [("logged_in", 1), ("log_ins_failed", 3)]

    async def test_nothing_that_was_mailed_is_told_in_an_answer(self, post: Post) -> None:
        token = await post.api.sign_up()
        mailed = await post.reset_token()
        for path in (ME, ACTIVITY, "/v1/sessions"):
            assert mailed.encode() not in (await post.api.call("GET", path, token=token)).body
