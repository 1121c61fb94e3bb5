"""What is mailed, to whom, and what it opens, on a real store."""

import asyncio
import re
from collections import Counter
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from math import sqrt
from pathlib import Path
from uuid import UUID

import attrs
import pytest
import redis.asyncio

from pickguard.adapters.background import LoopDeferred
from pickguard.adapters.mail.outbox import Outbox
from pickguard.adapters.mail.rendering import Renderer, sender_of
from pickguard.adapters.mail.transports import DirectoryTransport
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.clients import StoreClient
from pickguard.domain.model.challenges import MailedToken
from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.mail import (
    AddressChangeRequested,
    ConfirmNewAddress,
    NewDevice,
    PasswordChanged,
    VerifyAddress,
)
from pickguard.domain.services.registration import RegistrationMode
from pickguard.entrypoints.bootstrap import Services
from tests.contracts.http_api import ME, OTHER_EMAIL, WRONG_PASSWORD
from tests.contracts.http_mail import PERSON, RESETS, UNKNOWN_TOKEN, VERIFICATIONS, Post, without_ids
from tests.security.conftest import Serve
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, FakeClock
from tests.support.http import EMAIL, Answer, serving
from tests.support.store_contents import all_bytes
from tests.support.wiring import wire

GRACE = "grace@example.com"
NOBODY = "nobody@example.com"
SPENT = (410, "token-spent")
UNVERIFIED = "unverified@example.com"
DISABLED = "disabled@example.com"


async def make_accounts(post: Post, operator: Services) -> None:
    """Make an account that is verified, one that is not, and one that an operator has disabled."""
    for number, email in enumerate((EMAIL, UNVERIFIED, DISABLED)):
        headers = {"X-Forwarded-For": f"192.0.2.{number}"}
        answer = await post.api.call("POST", "/v1/users", {**PERSON, "email": email}, headers=headers)
        assert answer.status in {201, 202}
        if email != UNVERIFIED:
            assert (await post.confirm(await post.token(VerifyAddress))).status == 204
    found = MailedToken.parse(await post.token(VerifyAddress))
    assert (await operator.administration.disable(found.user_id)).email.value == DISABLED


async def log_ins(post: Post, email: str) -> list[Answer]:
    """Log in with a wrong password and with the right one, from where nobody is known, up to the limit on guesses."""
    passwords = [WRONG_PASSWORD, *([GOOD_PASSWORD] if email != EMAIL else [WRONG_PASSWORD]), *[WRONG_PASSWORD] * 10]
    return [await post.api.try_log_in(email, each, X_Forwarded_For="203.0.113.66") for each in passwords]


@pytest.mark.requirement(17)
@pytest.mark.would_have_caught("gotrue-338")
async def test_no_answer_tells_who_has_an_account(private: Post, operator: Services) -> None:
    await make_accounts(private, operator)
    told: dict[str, list[object]] = {}
    for number, email in enumerate((EMAIL, UNVERIFIED, DISABLED, NOBODY)):
        resets = [await private.ask_reset(email) for _ in range(8)]
        headers = {"X-Forwarded-For": f"198.51.100.{number}"}
        body = {**PERSON, "email": email, "password": OTHER_PASSWORD}
        registrations = [await private.api.call("POST", "/v1/users", body, headers=headers) for _ in range(2)]
        private.clock.advance(timedelta(minutes=15))  # the limit of one client address, over all accounts
        told[email] = [without_ids(answer) for answer in (*await log_ins(private, email), *resets, *registrations)]
    assert told[NOBODY] == told[EMAIL] == told[UNVERIFIED] == told[DISABLED]


@pytest.mark.requirement(17)
async def test_asking_for_a_mail_again_tells_nothing_but_of_ones_own_account(private: Post, operator: Services) -> None:
    await make_accounts(private, operator)
    token = await private.api.log_in()
    verified = await private.api.call("POST", VERIFICATIONS, token=token)
    told = []
    for email in (NOBODY, UNVERIFIED, DISABLED):
        change = {"email": email, "current_password": GOOD_PASSWORD}
        changed = await private.api.call("PATCH", ME, change, token=token)
        assert changed.json()["pending_email"] == email
        told.append(without_ids(await private.api.call("POST", VERIFICATIONS, token=token)))
    assert [*told, without_ids(verified)] == [told[0]] * 4
    assert told[0][0] == 202


@pytest.mark.requirement(16)
async def test_the_old_address_is_told_of_a_new_one_and_the_owner_of_all_else(post: Post) -> None:
    token = await post.api.sign_up()
    assert (await post.confirm(await post.token(VerifyAddress))).status == 204
    change = {"email": OTHER_EMAIL, "current_password": GOOD_PASSWORD}
    assert (await post.api.call("PATCH", ME, change, token=token)).status == 200
    assert [(mail.to.value, mail.new_address.value) for mail in post.mail.of(AddressChangeRequested)] == [(EMAIL, OTHER_EMAIL)]
    assert [mail.to.value for mail in post.mail.of(ConfirmNewAddress)] == [OTHER_EMAIL]
    change = {"password": OTHER_PASSWORD, "current_password": GOOD_PASSWORD}
    assert (await post.api.call("PATCH", ME, change, token=token)).status == 200
    assert (await post.reset(await post.reset_token(), GOOD_PASSWORD)).status == 204
    assert [(mail.to.value, mail.by_reset) for mail in post.mail.of(PasswordChanged)] == [(EMAIL, False), (EMAIL, True)]
    await post.api.log_in(User_Agent="Somebody/1.0")
    assert [(mail.to.value, mail.client.user_agent) for mail in post.mail.of(NewDevice)] == [(EMAIL, "Somebody/1.0")]


@pytest.mark.requirement(18, 23)
async def test_what_is_mailed_works_once_and_for_its_time_only(post: Post) -> None:
    await post.api.register()
    verify = await post.token(VerifyAddress)
    assert (await post.confirm(verify)).status == 204
    for answer in (await post.confirm(verify), await post.decline(verify), await post.reset(verify)):
        assert answer.outcome == SPENT
    reset = await post.reset_token()
    post.clock.advance(timedelta(minutes=9, seconds=59))
    assert (await post.reset(reset)).status == 204
    assert (await post.reset(reset)).outcome == SPENT
    reset = await post.reset_token()
    post.clock.advance(timedelta(minutes=10, seconds=1))
    assert (await post.reset(reset)).outcome == SPENT
    await post.api.register(email=GRACE)
    verify = await post.token(VerifyAddress)
    post.clock.advance(timedelta(hours=24, seconds=1))
    assert (await post.confirm(verify)).outcome == SPENT


@pytest.mark.requirement(18, 22)
async def test_ten_thousand_mailed_tokens_have_nothing_in_common() -> None:
    # Each bit is set in half of the tokens, within five and a half standard deviations: see test_tokens.
    count, user_id = 10_000, UserId(UUID(int=7))
    letters = wire().recovery._letters
    texts = [letters.new_token(user_id).reveal() for _ in range(count)]
    secrets = [MailedToken.parse(text).secret for text in texts]
    assert {len(secret) for secret in secrets} == {32}
    assert len({secret[:8] for secret in secrets}) == len({secret[-8:] for secret in secrets}) == count
    numbers = [int.from_bytes(secret, "big") for secret in secrets]
    for bit in range(256):
        ones = sum(number >> bit & 1 for number in numbers)
        assert abs(ones - count / 2) < 5.5 * sqrt(count) / 2, f"bit {bit} is set in {ones} of {count}"


@pytest.mark.requirement(21)
async def test_no_mailed_token_can_be_read_in_the_store(post: Post, store: redis.asyncio.Redis) -> None:
    await post.api.register()
    found = [MailedToken.parse(each) for each in (await post.token(VerifyAddress), await post.reset_token())]
    kept = await all_bytes(store)
    for token in found:
        for form in (token.reveal().encode(), token.secret, token.secret.hex().encode(), token.reveal()[4:68].encode()):
            assert form not in kept


@pytest.mark.requirement(24)
async def test_a_mailed_token_is_bound_to_its_account_and_to_what_it_was_asked_for(post: Post) -> None:
    await post.api.register()
    ada = MailedToken.parse(await post.token(VerifyAddress))
    await post.api.register(email=GRACE)
    grace = MailedToken.parse(await post.token(VerifyAddress))
    reset = MailedToken.parse(await post.reset_token())
    mixed = [attrs.evolve(one, secret=other.secret) for one in (ada, grace, reset) for other in (ada, grace, reset)]
    for token in {each.reveal() for each in mixed} - {each.reveal() for each in (ada, grace, reset)}:
        for use in (post.confirm, post.decline, post.reset):
            assert (await use(token)).outcome == SPENT
    for use, wrong in ((post.confirm, reset), (post.decline, reset), (post.reset, ada), (post.reset, grace)):
        assert (await use(wrong.reveal())).outcome == SPENT
    for token in (ada.reveal(), reset.reveal()):
        assert not await post.api.opens(token)
    session = await post.api.log_in()
    for use in (post.confirm, post.decline, post.reset):
        assert (await use(session)).outcome == SPENT
    assert (await post.reset(reset.reveal())).status == 204
    assert (await post.confirm(grace.reveal())).status == 204


@pytest.mark.requirement(43)
async def test_no_step_by_mail_is_taken_before_the_one_that_leads_to_it(private: Post) -> None:
    for use in (private.confirm, private.decline, private.reset):
        assert (await use(UNKNOWN_TOKEN)).outcome == SPENT
    assert (await private.api.call("POST", "/v1/users", PERSON)).status == 202
    assert (await private.api.try_log_in()).outcome == (401, "invalid-credentials")
    verify = await private.token(VerifyAddress)
    assert (await private.reset(verify)).outcome == SPENT
    assert (await private.confirm(verify)).status == 204
    token = await private.api.log_in()
    change = {"email": GRACE, "current_password": GOOD_PASSWORD}
    assert (await private.api.call("PATCH", ME, change, token=token)).json()["email"] == EMAIL
    assert (await private.api.try_log_in(GRACE)).outcome == (401, "invalid-credentials")


@pytest.mark.requirement(46)
async def test_nobody_is_flooded_with_mail(post: Post) -> None:
    await post.api.register()
    assert (await post.confirm(await post.token(VerifyAddress))).status == 204
    answers = await asyncio.gather(*(post.ask_reset() for _ in range(20)))
    # 429 would tell that the address has an account; the contract has it so.
    assert Counter(answer.outcome for answer in answers) == {(202, ""): 20}
    await post.deferred.drain()
    assert len(post.mail.mails) == 5
    post.clock.advance(timedelta(hours=1))
    await post.reset_token()
    assert len(post.mail.mails) == 6


@pytest.mark.would_have_caught("gitlab-cve-2023-7028")
async def test_a_reset_goes_to_the_stored_address_and_to_no_other(post: Post) -> None:
    await post.api.register()
    await post.deferred.drain()
    post.mail.mails.clear()
    for several in ([EMAIL, GRACE], {"0": EMAIL, "1": GRACE}):
        assert (await post.api.call("POST", RESETS, {"email": several})).faults == [("#/email", "wrong_type")]
    for email in (f"{EMAIL},{GRACE}", f"{EMAIL};{GRACE}", f"{EMAIL}\n{GRACE}", f"{EMAIL}%0a{GRACE}", f"{EMAIL}\r\nCc: {GRACE}"):
        assert (await post.ask_reset(email)).status == 202
    twice = f'{{"email": "{EMAIL}", "email": "{GRACE}"}}'.encode()
    assert (await post.api.call("POST", RESETS, data=twice)).outcome == (400, "malformed-body")
    assert (await post.api.call("POST", f"{RESETS}?email={GRACE}", {"email": EMAIL.upper()})).status == 202
    await post.deferred.drain()
    assert [mail.to.value for mail in post.mail.mails] == [EMAIL]


HOSTILE_NAMES = [
    f"Ada, {GRACE}",
    f"Ada <{GRACE}>",
    f"Ada>, <{GRACE}",
    f'"Ada" <{GRACE}>',
    f"=?utf-8?q?Ada=0D=0ABcc:_{GRACE}?=",
    f"Ada%0d%0aBcc:{GRACE}",
    f"Ada\\r\\nBcc: {GRACE}",
    "{{ token }} {% for x in y %}",
    "<script>alert(1)</script><a href=https://evil.example>",
    "See https://evil.example/",
    "Äda 🦆 " + "x" * 90,
]
BROKEN = ["\r\n", "\n", "\r", "\x00", "\x1b", "\x85", "\u2028", "\u2029", "\x0b"]


@pytest.mark.requirement(58)
@pytest.mark.parametrize("broken", BROKEN, ids=ascii)
async def test_a_line_break_is_in_no_name_and_no_address(post: Post, broken: str) -> None:
    name = await post.api.call("POST", "/v1/users", {**PERSON, "name": f"Ada{broken}Bcc: {GRACE}"})
    assert ("#/name", "invalid_name") in name.faults
    for email in (f"ada{broken}@example.com", f"{EMAIL}{broken}Bcc: {GRACE}", f"ada@example.com{broken}"):
        assert ("#/email", "invalid_email") in (await post.api.call("POST", "/v1/users", {**PERSON, "email": email})).faults
    token = await post.api.sign_up()
    renamed = await post.api.call("PATCH", ME, {"name": f"Ada{broken}Bcc: {GRACE}"}, token=token)
    assert renamed.faults == [("#/name", "invalid_name")]
    await post.deferred.drain()
    assert {mail.to.value for mail in post.mail.mails} == {EMAIL}


@pytest.mark.requirement(58)
@pytest.mark.would_have_caught("django-cve-2012-4520")
async def test_every_message_has_the_recipient_and_the_links_that_were_meant(
    client: StoreClient, clock: FakeClock, tmp_path: Path
) -> None:
    public_url = "https://accounts.example.org"
    sender = sender_of("", service_name="Pickguard", public_url=public_url)
    renderer = Renderer(service_name="Pickguard", public_url=public_url, sender=sender)
    people = {f"person{number}@example.com": name for number, name in enumerate(HOSTILE_NAMES)}
    named = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
    async with (
        Outbox(renderer.render, DirectoryTransport(tmp_path), spread=timedelta(0), now=clock.now) as outbox,
        LoopDeferred(pauses=(), spread=timedelta(0)) as deferred,
        serving(RedisAccounts(client), clock=clock, mailer=outbox, deferred=deferred) as api,
    ):
        for email, name in people.items():
            body = {"name": name, "email": email, "password": GOOD_PASSWORD}
            assert (await api.call("POST", "/v1/users", body, headers=named)).status == 201
            assert (await api.call("POST", RESETS, {"email": email}, headers=named)).status == 202
            await api.log_in(email)
            await api.log_in(email, User_Agent=f"x\\r\\nBcc: {GRACE}")
        await deferred.drain()
        await outbox.drain()
    messages = [message_from_bytes(path.read_bytes(), policy=SMTP) for path in sorted(tmp_path.iterdir())]
    recipients: Counter[str] = Counter()
    for message in messages:
        assert isinstance(message, EmailMessage)
        (to,) = message["To"].addresses
        recipients[to.addr_spec] += 1
        assert [message[header] for header in ("Cc", "Bcc", "Reply-To")] == [None] * 3
        assert [each.addr_spec for each in message["From"].addresses] == ["no-reply@accounts.example.org"]
        plain, html = message.get_body(("plain",)), message.get_body(("html",))
        assert plain is not None
        assert html is not None
        links = re.findall(r'href="([^"]*)"', html.get_content())
        assert all(link.startswith(f"{public_url}/account/") for link in links)
        assert len(links) == html.get_content().count('href="')
        assert "<script" not in html.get_content()
        assert {line for line in plain.get_content().splitlines() if "://" in line} == set(links)
    assert recipients == dict.fromkeys(people, 3)


@pytest.mark.would_have_caught("pre-hijacking")
async def test_whoever_registered_an_address_before_its_owner_is_out_after_a_reset(proxied: Post) -> None:
    attacker = {"X-Forwarded-For": "203.0.113.66"}
    body = {**PERSON, "password": OTHER_PASSWORD}
    assert (await proxied.api.call("POST", "/v1/users", body, headers=attacker)).status == 201
    mailed = await proxied.token(VerifyAddress)
    theirs = [await proxied.api.log_in(password=OTHER_PASSWORD, X_Forwarded_For="203.0.113.66") for _ in range(3)]
    change = {"email": "attacker@example.com", "current_password": OTHER_PASSWORD}
    assert (await proxied.api.call("PATCH", ME, change, token=theirs[0], headers=attacker)).status == 200
    pending = await proxied.token(ConfirmNewAddress)
    assert (await proxied.reset(await proxied.reset_token(), GOOD_PASSWORD)).status == 204
    assert [await proxied.api.opens(token) for token in theirs] == [False] * 3
    again = await proxied.api.try_log_in(password=OTHER_PASSWORD, X_Forwarded_For="203.0.113.66")
    assert again.outcome == (401, "invalid-credentials")
    for token in (mailed, pending):
        assert (await proxied.confirm(token)).outcome == SPENT
    user = await proxied.api.me(await proxied.api.log_in())
    assert (user["email"], user["email_verified"], user["pending_email"]) == (EMAIL, True, None)


@pytest.mark.would_have_caught("pre-hijacking")
async def test_who_did_not_make_an_account_ends_it_with_what_was_mailed(serve: Serve) -> None:
    async with serve(RegistrationMode.OPEN) as post:
        theirs = await post.api.sign_up(password=OTHER_PASSWORD)
        assert (await post.decline(await post.token(VerifyAddress))).status == 204
        assert not await post.api.opens(theirs)
        await post.api.register()
