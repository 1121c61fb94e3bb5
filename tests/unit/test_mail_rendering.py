"""Mails as they are read: what they say, where their links lead, and that nobody else can write into them."""

import html
import re
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, default
from email.utils import getaddresses
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pickguard.adapters.mail.rendering import STEMS, Renderer, TemplateError, describe, samples, sender_of
from pickguard.domain.model import mail as kinds
from pickguard.domain.model.errors import InvalidFields
from pickguard.domain.model.mail import (
    AccountRestored,
    AddressChangeRequested,
    DataExported,
    DeletionScheduled,
    Mail,
    NewDevice,
    Notice,
    PasswordChanged,
    ResetPassword,
    TokenMail,
    VerifyAddress,
)
from pickguard.domain.model.sessions import Client
from pickguard.domain.model.users import EmailAddress, PersonName
from tests.support.strategies import examples

URL = "https://accounts.example.com/sub"
TOKEN = "pgm_" + "AbC-_123" * 8 + "01234567"
SENDER = Address("Pickguard", "no-reply", "accounts.example.com")
NAME = "Visit evil.example <b>now</b>"
AGENT = "Visit evil.example Firefox/1.0 (Linux)"
EXPIRES = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def renderer(*, service: str = "Pickguard", url: str = URL, overrides: Path | None = None) -> Renderer:
    return Renderer(service_name=service, public_url=url, sender=SENDER, overrides=overrides)


RENDERER = renderer()


def a_mail(kind: type[Mail], *, to: str = "Ada@example.com", name: str = NAME, agent: str | None = AGENT, **more: Any) -> Mail:
    """Return a mail of a kind; what is not given is made up."""
    given_: dict[str, Any] = {"to": EmailAddress.parse(to), "name": name}
    if issubclass(kind, TokenMail):
        given_ |= {"token": TOKEN, "expires_at": EXPIRES}
    if issubclass(kind, (Notice, VerifyAddress)):
        given_ |= {"at": EXPIRES, "client": Client(user_agent=agent, ip="192.0.2.1")}
    if kind is AddressChangeRequested:
        given_["new_address"] = EmailAddress.parse("new@example.com")
    if kind is DeletionScheduled:
        given_["deletes_at"] = EXPIRES
    if kind is PasswordChanged:
        given_["by_reset"] = True
    return kind(**given_ | more)


def read(message: EmailMessage) -> EmailMessage:
    """Return a message as whoever gets it reads it."""
    found = message_from_bytes(message.as_bytes(policy=SMTP), policy=default)
    assert isinstance(found, EmailMessage)
    assert not found.defects
    return found


def parts(message: EmailMessage) -> tuple[str, str]:
    """Return the plain text and the HTML of a message."""
    plain, rich = read(message).iter_parts()
    assert (plain.get_content_type(), rich.get_content_type()) == ("text/plain", "text/html")
    return plain.get_content().replace("\r\n", "\n"), rich.get_content().replace("\r\n", "\n")


def links(text: str) -> list[str]:
    return re.findall(r"\w+://[^\s\"<>]+", text)


ALL = pytest.mark.parametrize("kind", STEMS, ids=lambda kind: kind.__name__)
WITH_TOKEN = pytest.mark.parametrize(
    "kind", [kind for kind in STEMS if issubclass(kind, TokenMail)], ids=lambda it: it.__name__
)


def test_there_is_a_sample_and_a_pair_of_templates_for_every_kind() -> None:
    every = {
        kind
        for kind in vars(kinds).values()
        if isinstance(kind, type) and issubclass(kind, Mail) and kind not in {Mail, TokenMail, Notice}
    }
    assert {type(sample) for sample in samples()} == set(STEMS) == every
    assert len(set(STEMS.values())) == len(STEMS)


# What every mail is


@ALL
def test_a_mail_has_the_headers_of_one_that_was_sent_by_a_machine(kind: type[Mail]) -> None:
    message = read(RENDERER.render(a_mail(kind)))
    assert message.get_content_type() == "multipart/alternative"
    assert message["From"] == "Pickguard <no-reply@accounts.example.com>"
    assert message["To"] == "Ada@example.com"
    assert message["Subject"].isprintable()
    assert "Pickguard" in message["Subject"]
    assert message["Auto-Submitted"] == "auto-generated"
    assert re.fullmatch(r"<[^@\s]+@accounts\.example\.com>", message["Message-ID"])
    assert abs(message["Date"].datetime - datetime.now(UTC)) < timedelta(minutes=1)
    assert {"Bcc", "Cc", "Reply-To"}.isdisjoint(message.keys())


@ALL
def test_the_lines_of_a_plain_text_fit_a_terminal(kind: type[Mail]) -> None:
    plain, _ = parts(RENDERER.render(a_mail(kind)))
    for line in plain.splitlines():
        assert len(line) <= 78 or line.strip() == TOKEN or line in links(line)
    assert "\n\n\n" not in plain
    assert plain.count("\n-- \n") == 1


@ALL
def test_a_text_in_ascii_is_sent_as_it_is_with_its_lines_whole(kind: type[Mail]) -> None:
    message = RENDERER.render(a_mail(kind))
    raw = message.as_bytes(policy=SMTP).decode("ascii")
    for part in message.iter_parts():
        assert part["Content-Transfer-Encoding"] == "7bit"
        for line in part.get_content().splitlines():
            assert f"{line}\r\n" in raw


@ALL
def test_both_parts_say_the_same_moments_addresses_and_links(kind: type[Mail]) -> None:
    plain, rich = parts(RENDERER.render(a_mail(kind)))
    assert {html.unescape(link) for link in links(rich)} == set(links(plain))
    for said in re.findall(r"2 January 2026, 03:04 UTC|new@example\.com", plain):
        assert said in rich


# Links and tokens


PAGES = {"VerifyAddress": {"verify", "decline"}, "ConfirmNewAddress": {"verify"}, "ResetPassword": {"reset"}}
PAGES["AlreadyRegistered"] = {"reset"}


@ALL
def test_links_lead_to_the_public_url_and_have_the_token_in_their_fragment(kind: type[Mail]) -> None:
    expected = {f"{URL}/account/{page}#token={TOKEN}" for page in PAGES.get(kind.__name__, ())}
    for text in parts(RENDERER.render(a_mail(kind))):
        assert {html.unescape(link) for link in links(text)} == expected


@WITH_TOKEN
def test_a_token_stands_alone_on_a_line_and_is_seen_in_the_html(kind: type[Mail]) -> None:
    plain, rich = parts(RENDERER.render(a_mail(kind)))
    assert plain.splitlines().count(TOKEN) == 1
    assert re.sub(r"<[^>]*>", "\n", rich).splitlines().count(TOKEN) == 1


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=9)), timezone(timedelta(hours=-7, minutes=-30))])
@WITH_TOKEN
def test_the_end_of_a_token_is_told_in_utc(kind: type[Mail], zone: timezone) -> None:
    for text in parts(RENDERER.render(a_mail(kind, expires_at=EXPIRES.astimezone(zone)))):
        assert "until 2 January 2026, 03:04 UTC" in text


@pytest.mark.parametrize("name", ["VerifyAddress", "ConfirmNewAddress"])
def test_a_mail_that_asks_for_a_confirmation_names_the_address(name: str) -> None:
    kind = next(kind for kind in STEMS if kind.__name__ == name)
    for text in parts(RENDERER.render(a_mail(kind))):
        assert "Ada@example.com" in text


def test_a_notice_of_a_password_that_an_operator_set_says_so() -> None:
    for text in parts(RENDERER.render(a_mail(PasswordChanged, by_reset=False, by_operator=True))):
        words = " ".join(text.split())
        assert "was set by those who run it. Every session of the account has ended." in words
        assert "ask them why" in words
        for other in ("192.0.2.1", "reset your password now", "but the one"):
            assert other not in words


@pytest.mark.parametrize("by_reset", [False, True])
def test_a_notice_of_a_new_password_says_how_it_was_set(by_reset: bool) -> None:  # noqa: FBT001
    for text in parts(RENDERER.render(a_mail(PasswordChanged, by_reset=by_reset))):
        words = " ".join(text.split())
        assert ("was reset with a token that was mailed to you" in words) == by_reset
        assert ("Look after your mailbox first" in words) == by_reset
        assert ("Every session but the one it was changed in" in words) != by_reset


@pytest.mark.parametrize(
    "kind",
    [VerifyAddress, AddressChangeRequested, NewDevice, PasswordChanged, DeletionScheduled, AccountRestored, DataExported],
)
@pytest.mark.parametrize(("ip", "said"), [("2001:db8::1", "2001:db8::1"), (None, "an unknown address")])
def test_a_notice_says_when_and_from_where(kind: type[Mail], ip: str | None, said: str) -> None:
    for text in parts(RENDERER.render(a_mail(kind, client=Client(ip=ip)))):
        assert said in text
        assert "2 January 2026, 03:04 UTC" in text
        assert "an unknown program" in text


# What others have written


@ALL
def test_no_mail_repeats_what_a_client_calls_itself_or_its_user(kind: type[Mail]) -> None:
    raw = RENDERER.render(a_mail(kind)).as_bytes()
    assert b"evil" not in raw
    assert b"Visit" not in raw


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        (None, "an unknown program"),
        ("", "an unknown program"),
        ("<script>alert(1)</script>", "an unknown program"),
        ("curl/8.5.0", "curl"),
        ("python-requests/2.31", "a Python program"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0", "Firefox on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64) AppleWebKit/537.36 Chrome/130.0 Safari/537.36 Edg/130.0", "Edge on Windows"),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605 Version/17.5 Safari/604.1",
            "Safari on an iPhone",
        ),
        ("Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/130.0 Mobile Safari/537.36", "Chrome on Android"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605 Version/17 Safari/605", "Safari on a Mac"),
    ],
)
def test_a_device_is_described_in_words_of_our_own(agent: str | None, said: str) -> None:
    assert describe(Client(user_agent=agent)) == said


def test_what_comes_from_elsewhere_is_escaped_in_html() -> None:
    made = renderer(service="A&B <i>", url="https://example.com/a&b'c")
    address = EmailAddress(value="<b>&@example.com", key="a@example.com")
    notice = a_mail(AddressChangeRequested, new_address=address, client=Client(ip="<ip>"))
    for each in (notice, a_mail(VerifyAddress, to="a'&b@example.com")):
        _, rich = parts(made.render(each))
        assert not re.search(r"<i>|<ip>|<b>|a&b", rich)
        assert "A&amp;B &lt;i&gt;" in rich
        assert ("&lt;b&gt;&amp;@example.com" in rich) == (each is notice)


def test_a_mail_to_an_internationalised_domain_goes_out_in_its_ascii_form() -> None:
    message = read(RENDERER.render(a_mail(VerifyAddress, to="Ada.O'Neil+x@Bücher.example")))
    (address,) = message["To"].addresses
    assert (address.username, address.domain) == ("Ada.O'Neil+x", "xn--bcher-kva.example")
    assert "bücher.example" in parts(message)[0]


def test_a_service_name_that_is_not_ascii_arrives_and_links_stay_whole_where_they_are_read() -> None:
    message = renderer(service="Bücher – 本").render(a_mail(ResetPassword))
    message.as_bytes(policy=SMTP).decode("ascii")
    for part in message.iter_parts():
        assert part["Content-Transfer-Encoding"] == "quoted-printable"
    assert read(message)["Subject"] == "Reset your password for Bücher – 本"
    plain, rich = parts(message)
    assert f"{URL}/account/reset#token={TOKEN}" in plain.splitlines()
    assert TOKEN in plain.splitlines()
    assert "Bücher – 本" in rich


def parsed(text: str) -> EmailAddress | None:
    try:
        return EmailAddress.parse(text)
    except InvalidFields:
        return None


def named(text: str) -> str | None:
    try:
        return PersonName.parse(text).value
    except InvalidFields:
        return None


atoms = st.text(alphabet="ab.!#$%&'*+-/=?^_`{|}~", min_size=1, max_size=64)
domains = st.sampled_from(
    ["example.com", "bücher.example", "xn--bcher-kva.example", f"{'a' * 60}.{'b' * 60}.{'c' * 40}.example"]
)
addresses = st.builds("{}@{}".format, atoms, domains).map(parsed).filter(lambda it: it is not None)
names = st.text(min_size=1, max_size=40).map(named).filter(lambda it: it is not None)


@examples(30)
@given(
    st.sampled_from(list(STEMS)), addresses, names, st.text(max_size=40), st.text(alphabet="aé本 <&.", min_size=1, max_size=90)
)
def test_whatever_people_call_themselves_a_mail_has_one_recipient_and_says_what_was_rendered(
    kind: type[Mail], to: EmailAddress, name: str, agent: str, service: str
) -> None:
    message = renderer(service=service).render(attrs.evolve(a_mail(kind, name=name, agent=agent), to=to))
    found = read(message)
    (address,) = found["To"].addresses
    assert (address.username, address.domain) == (to.local_part, to.key.rpartition("@")[2])
    assert list(found.keys()) == list(message.keys())
    assert not {"\r", "\n"} & set(found["Subject"])
    for sent, got in zip(message.iter_parts(), found.iter_parts(), strict=True):
        assert got.get_content().replace("\r\n", "\n") == sent.get_content().replace("\r\n", "\n")


# Whom mail is from


@pytest.mark.parametrize(
    ("text", "url", "sender"),
    [
        ("", "https://accounts.example.com", "Shop <no-reply@accounts.example.com>"),
        ("", "https://accounts.example.com:8443/x", "Shop <no-reply@accounts.example.com>"),
        ("", "https://127.0.0.1:9443", "Shop <no-reply@localhost>"),
        ("", "https://[::1]:9443", "Shop <no-reply@localhost>"),
        ("post@example.com", "https://127.0.0.1", "Shop <post@example.com>"),
        ("Post Office <Post@Bücher.example>", "https://127.0.0.1", "Post Office <Post@xn--bcher-kva.example>"),
        ('"Post, Office" <post@example.com>', "https://127.0.0.1", '"Post, Office" <post@example.com>'),
    ],
)
def test_mail_is_from_whom_was_given_or_from_nobody_at_the_host(text: str, url: str, sender: str) -> None:
    assert str(sender_of(text, service_name="Shop", public_url=url)) == sender


# Templates of an operator


def test_a_template_of_the_operator_takes_the_place_of_one_and_the_others_stay(tmp_path: Path) -> None:
    (tmp_path / "reset_password.txt").write_text("Subject: Neu\n\nHallo {{ name }}, {{ to }}:\r\n{{ reset_url }}\n")
    made = renderer(overrides=tmp_path)
    message = made.render(a_mail(ResetPassword, name="Ada"))
    plain, rich = parts(message)
    assert message["Subject"] == "Neu"
    assert plain.splitlines() == ["Hallo Ada, Ada@example.com:", f"{URL}/account/reset#token={TOKEN}"]
    assert "Reset your password" in rich
    assert made.render(a_mail(VerifyAddress))["Subject"] == "Confirm your e-mail address for Pickguard"


def test_a_layout_of_the_operator_is_that_of_all_mails(tmp_path: Path) -> None:
    (tmp_path / "layout.html").write_text("<!doctype html><title>T</title><p>Ours{% block content %}{% endblock %}")
    made = renderer(overrides=tmp_path)
    for kind in STEMS:
        _, rich = parts(made.render(a_mail(kind)))
        assert "<p>Ours" in rich
        assert "<h1>" in rich


def test_who_deleted_an_account_is_told_until_when_it_can_be_restored() -> None:
    mail = a_mail(DeletionScheduled, deletes_at=datetime(2026, 2, 1, 3, 4, tzinfo=UTC))
    for text in parts(RENDERER.render(mail)):
        assert "1 February 2026, 03:04 UTC" in text


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("reset_password.txt", b"Subject: S\n\n{% if %}", "reset_password.txt, line 3: "),
        ("reset_password.txt", b"Subject: S\n\n{{ tokn }}", "reset_password.txt: 'tokn' is undefined"),
        ("reset_password.txt", b"Subject: S\n\n{{ token + 1 }}", "reset_password.txt: can only concatenate str"),
        ("reset_password.txt", b"Subject: S\n\n{{ 1 // 0 }}", "reset_password.txt: "),
        ("reset_password.txt", b"Hello", "reset_password.txt must begin with a line 'Subject: "),
        ("reset_password.txt", b"Subject: \n\nHello", "reset_password.txt must begin with a line 'Subject: "),
        ("reset_password.txt", b"Subject: S\nHello", "reset_password.txt must begin with a line 'Subject: "),
        ("reset_password.txt", b"", "reset_password.txt must begin with a line 'Subject: "),
        ("reset_password.txt", b"Subject: S\n\n\xff", "reset_password.txt: "),
        (
            "password_changed.html",
            b"{% if by_reset %}{{ by_rest }}{% endif %}",
            "password_changed.html: 'by_rest' is undefined",
        ),
        ("password_changed.html", b'{% extends "base.html" %}', "password_changed.html: there is no template base.html"),
        ("layout.html", b"{% block title %}", "layout.html, line 1: "),
        ("parts.html", b"", ": the template 'parts.html' "),
    ],
)
def test_a_template_that_cannot_be_used_is_found_at_once_and_named_in_one_line(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TemplateError) as refused:
        renderer(overrides=tmp_path)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["reset_password.txt", "verify_address.html"])
def test_a_template_without_the_token_is_of_no_use_to_anybody(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("Subject: Hello\n\nHello\n")
    with pytest.raises(TemplateError, match=rf"^{name} does not show the token$"):
        renderer(overrides=tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "Example and, Identity Services Identity Inc. Example Example Inc. Example Gesellschaft Services Iden",
        "für Söhne, 日本語 & Identity & Übersee Inc.",
        'Ada "the" Countess, Inc.',
        "x" * 100,
    ],
)
def test_any_name_of_a_service_comes_back_from_the_header(name: str) -> None:
    made = Renderer(
        service_name=name, public_url=URL, sender=sender_of("", service_name=name, public_url="https://accounts.example.com")
    )
    content = made.render(a_mail(ResetPassword)).as_bytes()
    # By Python's older parser: the newer one puts spaces between encoded words (seen in 3.11.7; RFC 2047, section 6.2).
    ((shown, address),) = getaddresses([str(message_from_bytes(content)["From"])])
    assert str(make_header(decode_header(shown.replace("\r\n", "")))) == name
    assert address == "no-reply@accounts.example.com"
    head, _, _ = content.partition(b"\r\n\r\n")
    assert all(len(line) <= 76 for line in head.split(b"\r\n") if b"=?utf-8?" in line)


def test_what_is_changed_in_a_file_later_is_not_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "reset_password.txt"
    file.write_text("Subject: Before\n\n{{ token }}\n")
    made = renderer(overrides=tmp_path)
    file.write_text("{% broken")
    assert made.render(a_mail(ResetPassword))["Subject"] == "Before"
