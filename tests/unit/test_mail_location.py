"""Where mail goes: which URLs name a transport, and which are refused without being quoted."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pickguard.adapters.mail.location import MailLocation, Transport
from tests.support.strategies import examples

CONSOLE, DIRECTORY, SMTP, SMTPS = Transport.CONSOLE, Transport.DIRECTORY, Transport.SMTP, Transport.SMTPS


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("console:", MailLocation(transport=CONSOLE)),
        ("CONSOLE:", MailLocation(transport=CONSOLE)),
        ("dir:mail", MailLocation(transport=DIRECTORY, path=Path("mail"))),
        ("dir:/var/mail box", MailLocation(transport=DIRECTORY, path=Path("/var/mail box"))),
        ("smtp://mail.example.com", MailLocation(transport=SMTP, host="mail.example.com", port=587)),
        ("SMTP://Mail.Example.COM/", MailLocation(transport=SMTP, host="mail.example.com", port=587)),
        ("smtp://mail.example.com:25", MailLocation(transport=SMTP, host="mail.example.com", port=25)),
        ("smtp://127.0.0.1:2525", MailLocation(transport=SMTP, host="127.0.0.1", port=2525)),
        ("smtp://[::1]", MailLocation(transport=SMTP, host="::1", port=587)),
        ("smtps://mail.example.com", MailLocation(transport=SMTPS, host="mail.example.com", port=465)),
        ("smtps://ada@mail.example.com", MailLocation(transport=SMTPS, host="mail.example.com", port=465, user="ada")),
        ("smtp://ada%40example.com@mail", MailLocation(transport=SMTP, host="mail", port=587, user="ada@example.com")),
    ],
)
def test_a_url_names_a_transport(url: str, location: MailLocation) -> None:
    assert MailLocation.parse(url) == location


@pytest.mark.parametrize(
    "url",
    [
        "",
        "console",
        "console:x",
        "dir:",
        "dir",
        "dir:a\0b",
        "dir:a\nb",
        "mail.example.com",
        "mailto:ada@example.com",
        "https://mail.example.com",
        "smtp:",
        "smtp://",
        "smtp:mail.example.com",
        "smtp://mail.example.com:0",
        "smtp://mail.example.com:65536",
        "smtp://mail.example.com:port",
        "smtp://mail.example.com/inbox",
        "smtp://mail.example.com?tls=no",
        "smtp://mail.example.com#x",
        "smtp://[::1",
        "smtp://@mail.example.com",
        "smtp://mail example",
        "smtp://mail.example.com\r\nRCPT",
        "smtp://a%0d%0ab@mail.example.com",
    ],
)
def test_what_names_none_is_refused_with_an_example_in_one_line(url: str) -> None:
    with pytest.raises(ValueError, match=r"^(give smtp://HOST|this is not a complete smtps? URL; an example is)") as refused:
        MailLocation.parse(url)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("url", ["smtp://ada:geheim@mail.example.com", "smtps://:geheim@mail", "smtp://ada:@mail"])
def test_a_password_in_a_url_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ValueError, match="the password does not belong in the URL") as refused:
        MailLocation.parse(url)
    assert "geheim" not in str(refused.value)


@examples(100)
@given(st.one_of(st.text(), st.text().map("smtp://".__add__), st.text(alphabet="a1:@/[]%?#. \n\0é", max_size=12)))
@example("smtp://℀@x")
@example("smtps://[v1.a]")
@example("dir:\ud800")
def test_any_text_is_a_location_or_refused_and_says_nothing_of_a_password(text: str) -> None:
    for url in (text, f"smtp://ada:geheim{text}"):
        try:
            said = MailLocation.parse(url).shown
        except ValueError as error:
            said = str(error)
        assert said.isprintable()
        assert ("geheim" in said) == (url == text and "geheim" in text)


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("smtp://localhost", True),
        ("smtp://127.0.0.1:25", True),
        ("smtp://127.9.9.9", True),
        ("smtp://[::1]:25", True),
        ("smtp://10.0.0.1", False),
        ("smtp://localhost.example.com", False),
        ("smtp://127.0.0.1.example.com", False),
        ("smtp://0.0.0.0", False),
        ("console:", False),
    ],
)
def test_only_loopback_is_here(url: str, here: bool) -> None:  # noqa: FBT001
    assert MailLocation.parse(url).is_here == here


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("smtp://ada@mail.example.com", "smtp://mail.example.com:587"),
        ("smtps://[::1]:4650", "smtps://[::1]:4650"),
        ("dir:mail", "dir:mail"),
        ("console:", "console:"),
    ],
)
def test_a_place_is_shown_without_its_user(url: str, shown: str) -> None:
    assert MailLocation.parse(url).shown == shown
