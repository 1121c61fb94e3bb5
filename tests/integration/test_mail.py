"""Mail by real servers: over SMTP with TLS and without, into a directory, to the terminal; and what a service does with it."""

import asyncio
import logging
import os
import re
import signal
import ssl
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, Final

import pytest

from pickguard.adapters.engine import Engine
from pickguard.adapters.mail.location import MailLocation
from pickguard.adapters.mail.outbox import Outbox
from pickguard.adapters.mail.rendering import STEMS, Renderer, sender_of
from pickguard.adapters.mail.transports import DeliveryError, DirectoryTransport, SmtpTransport
from pickguard.domain.model.mail import ResetPassword
from pickguard.domain.model.users import EmailAddress
from pickguard.entrypoints.tls import development_certificate, server_context
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, FakeClock
from tests.support.redis_servers import free_port
from tests.support.serving import Api, run_to_end, serving
from tests.support.smtp import PASSWORD, Mailbox, mail_server, other_server, say, until_gone

URL: Final = "https://accounts.example.com"
SENDER: Final = sender_of("", service_name="Pickguard", public_url=URL)
TOKEN: Final = "pgm_geheim"


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log of mails, which holds nothing of one, and no password."""
    caplog.set_level(logging.INFO, "pickguard.mail")
    yield caplog
    said = "\n".join(said_by(caplog))
    assert "geheim" not in said
    assert "ada@" not in said


def said_by(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in log.records if record.name == "pickguard.mail"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, ssl.SSLContext]]:
    """Makes an authority of a name: its certificate, and the context of a server at 127.0.0.1 that it vouches for."""
    directory = tmp_path_factory.mktemp("tls")

    def make(name: str) -> tuple[Path, ssl.SSLContext]:
        certificate, key = development_certificate(directory / name, "127.0.0.1")
        return certificate, server_context(certificate, key)

    return make


Certificates = Callable[[str], tuple[Path, ssl.SSLContext]]


def transport(port: int, *, scheme: str = "smtp", user: str = "", seconds: float = 10, **more: Any) -> SmtpTransport:
    url = f"{scheme}://{f'{user}@' if user else ''}127.0.0.1:{port}"
    return SmtpTransport(
        location=MailLocation.parse(url), password=PASSWORD if user else None, timeout=timedelta(seconds=seconds), **more
    )


def a_message(text: str = "Hello\n") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "no-reply@example.com", "ada@example.com", "Hello"
    message.set_content(text, cte="7bit")
    return message


async def send(by: SmtpTransport, message: EmailMessage | None = None) -> None:
    await by.send(message or a_message(), sender="no-reply@example.com", recipient="ada@example.com")


async def refusal(by: SmtpTransport) -> DeliveryError:
    with pytest.raises(DeliveryError) as refused:
        await send(by)
    return refused.value


# SMTP


async def test_mail_is_handed_to_a_server_on_this_machine_as_it_is() -> None:
    mailbox = Mailbox()
    lines = [".", "..", ".begins with a dot", "a" * 900, "", "ends"]
    async with mail_server(mailbox) as port:
        await send(transport(port), a_message("\n".join(lines) + "\n"))
    (delivery,) = mailbox.deliveries
    assert (delivery.sender, delivery.recipients) == ("no-reply@example.com", ["ada@example.com"])
    assert (delivery.by_tls, delivery.user) == (False, None)
    assert delivery.text.splitlines() == lines


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_the_password_and_the_mail_go_by_tls(certificates: Certificates, scheme: str, mechanism: str) -> None:
    ca, context = certificates("one")
    mailbox = Mailbox()
    excluded = {"PLAIN", "LOGIN"} - {mechanism}
    by = {"tls_context": context} if scheme == "smtp" else {"implicit_tls": context, "auth_require_tls": False}
    async with mail_server(mailbox, auth_exclude_mechanism=excluded, **by) as port:
        await send(transport(port, scheme=scheme, user="ada%40example.com", ca=ca))
    (delivery,) = mailbox.deliveries
    assert delivery.user == "ada@example.com"
    assert [(name, password) for name, password, _ in mailbox.passwords] == [(mechanism, PASSWORD)]
    if scheme == "smtp":  # aiosmtpd does not know of TLS that was there before it
        assert delivery.by_tls
        assert mailbox.passwords[0][2]


async def test_a_server_on_this_machine_is_spoken_to_by_tls_where_it_offers_that(certificates: Certificates) -> None:
    _, context = certificates("one")
    mailbox = Mailbox()
    async with mail_server(mailbox, tls_context=context, require_starttls=True) as port:
        await send(transport(port))
    assert [delivery.by_tls for delivery in mailbox.deliveries] == [True]


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
@pytest.mark.parametrize("user", ["", "ada"])
async def test_a_certificate_of_somebody_else_gets_neither_the_password_nor_the_mail(
    certificates: Certificates, scheme: str, user: str
) -> None:
    _, context = certificates("one")
    other, _ = certificates("another")
    mailbox = Mailbox()
    by = {"tls_context": context} if scheme == "smtp" else {"implicit_tls": context, "auth_require_tls": False}
    async with mail_server(mailbox, **by) as port:
        error = await refusal(transport(port, scheme=scheme, user=user, ca=other))
    assert str(error).startswith("the server cannot be reached: its certificate is not trusted: ")
    assert not error.permanent
    assert (mailbox.commands, mailbox.passwords, mailbox.deliveries) == ([], [], [])


@pytest.mark.parametrize(("scheme", "user"), [("smtp", "ada"), ("smtps", "ada"), ("smtps", "")])
async def test_without_an_authority_that_vouches_neither_a_user_nor_a_mail_is_sent(
    certificates: Certificates, scheme: str, user: str
) -> None:
    _, context = certificates("one")
    mailbox = Mailbox()
    by = {"tls_context": context} if scheme == "smtp" else {"implicit_tls": context, "auth_require_tls": False}
    async with mail_server(mailbox, **by) as port:
        error = await refusal(transport(port, scheme=scheme, user=user))
    assert "its certificate is not trusted" in str(error)
    assert (mailbox.commands, mailbox.passwords) == ([], [])


@pytest.mark.parametrize("user", ["ada", ""])
async def test_where_starttls_is_not_offered_nothing_is_sent(certificates: Certificates, user: str) -> None:
    ca, _ = certificates("one")
    mailbox = Mailbox()
    async with mail_server(mailbox, auth_require_tls=False) as port:
        error = await refusal(transport(port, user=user, ca=ca))
    assert str(error) == "the server offers no STARTTLS"
    assert not error.permanent
    assert (mailbox.commands, mailbox.passwords, mailbox.deliveries) == ([], [], [])


async def test_starttls_that_is_offered_and_refused_is_no_way_around_tls() -> None:
    heard: list[bytes] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await say(reader, writer, "220 hi", "250-mail\r\n250-AUTH PLAIN\r\n250 STARTTLS")
        heard.append(await reader.readline())
        writer.write(b"454 not now\r\n")
        heard.append(await reader.read())

    async with other_server(speak) as port:
        error = await refusal(transport(port, user="ada"))
    assert str(error) == "the server refuses the connection (454)"
    assert heard[0] == b"STARTTLS\r\n"
    assert b"AUTH" not in heard[1]
    assert b"MAIL" not in heard[1]


async def test_a_wrong_password_is_told_by_its_status(certificates: Certificates) -> None:
    ca, context = certificates("one")
    mailbox = Mailbox()
    async with mail_server(mailbox, tls_context=context) as port:
        by = SmtpTransport(location=MailLocation.parse(f"smtp://ada@127.0.0.1:{port}"), password="wrong", ca=ca)
        error = await refusal(by)
    assert str(error) == "the server refuses the user or the password (535)"
    assert "wrong" not in repr(by)
    assert mailbox.commands == []


async def test_a_server_that_knows_no_way_to_log_in_gets_no_mail(certificates: Certificates) -> None:
    ca, context = certificates("one")
    mailbox = Mailbox()
    async with mail_server(mailbox, tls_context=context, auth_exclude_mechanism=["PLAIN", "LOGIN"]) as port:
        error = await refusal(transport(port, user="ada", ca=ca))
    assert str(error) == "the server offers no way to log in that is known here"
    assert mailbox.commands == []


# Servers that refuse, fail or say nothing


async def nothing_at_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await until_gone(reader, writer)


async def nothing_after_ehlo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await say(reader, writer, "220 hi", "250 mail")
    await until_gone(reader)


async def nothing_after_data(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await say(reader, writer, "220 hi", "250 mail", "250 ok", "250 ok", "354 go on")
    await until_gone(reader)


async def nothing_after_starttls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await say(reader, writer, "220 hi", "250-mail\r\n250 STARTTLS", "220 go on")
    await until_gone(reader)


@pytest.mark.parametrize("speak", [nothing_at_all, nothing_after_ehlo, nothing_after_data, nothing_after_starttls])
async def test_a_server_that_says_nothing_is_given_up_in_time(speak: Callable[..., Any]) -> None:
    loop = asyncio.get_running_loop()
    async with other_server(speak) as port:
        began = loop.time()
        error = await refusal(transport(port, seconds=0.2))
        assert loop.time() - began < 5
    assert str(error) == "the server did not answer in time"
    assert not error.permanent


async def test_a_server_that_says_nothing_to_tls_is_given_up_in_time() -> None:
    async with other_server(nothing_at_all) as port:
        error = await refusal(transport(port, scheme="smtps", seconds=0.2))
    assert not error.permanent


async def test_who_is_told_to_stop_does_not_wait_for_a_server_that_says_nothing() -> None:
    loop = asyncio.get_running_loop()
    has_all = asyncio.Event()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await say(reader, writer, "220 hi", "250 mail", "250 ok", "250 ok", "354 go on")
        while await reader.readline() != b".\r\n":
            pass
        has_all.set()
        await until_gone(reader)

    async with other_server(speak) as port:
        sending = asyncio.create_task(send(transport(port, seconds=60)))
        await has_all.wait()
        began = loop.time()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert loop.time() - began < 20


async def test_a_good_bye_that_does_not_come_makes_no_second_mail() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await say(reader, writer, "220 hi", "250 mail", "250 ok", "250 ok", "354 go on")
        while await reader.readline() != b".\r\n":
            pass
        writer.write(b"250 taken\r\n")
        await reader.readline()
        writer.transport.abort()

    async with other_server(speak) as port:
        await send(transport(port))


async def test_a_connection_that_is_refused_is_told_in_the_words_of_the_system() -> None:
    error = await refusal(transport(free_port()))
    assert str(error) == "the server cannot be reached: Connection refused"
    assert not error.permanent


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        ("421 too busy", "the server refuses the connection (421)"),
        ("554 no", "the server refuses the connection (554)"),
        ("hello", "the server refuses the connection (-1)"),
    ],
)
async def test_a_connection_that_is_not_taken_may_be_taken_another_time(greeting: str, said: str) -> None:
    async with other_server(lambda reader, writer: say(reader, writer, greeting)) as port:
        error = await refusal(transport(port))
    assert (str(error), error.permanent) == (said, False)


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(("reply", "code"), [("421 bye", 421), ("451 later", 451), ("550 no", 550), ("552 too big", 552)])
async def test_only_a_mail_that_is_refused_by_5xx_is_refused_for_good(command: str, reply: str, code: int) -> None:
    mailbox = Mailbox({command: [reply]})
    async with mail_server(mailbox) as port:
        error = await refusal(transport(port))
    assert (str(error), error.permanent) == (f"the server refuses it ({code})", code >= 500)
    assert mailbox.deliveries == []


# The outbox on a server


def a_reset(to: str = "Ada@Bücher.example") -> ResetPassword:
    return ResetPassword(
        to=EmailAddress.parse(to), name="Ada", token=TOKEN, expires_at=FakeClock().now() + timedelta(minutes=10)
    )


@asynccontextmanager
async def outbox(by: SmtpTransport, pauses: int = 5) -> AsyncGenerator[Outbox]:
    renderer = Renderer(service_name="Pickguard", public_url=URL, sender=SENDER)
    async with Outbox(renderer.render, by, spread=timedelta(0), pauses=[timedelta(0)] * pauses, now=FakeClock().now) as box:
        yield box


@pytest.mark.parametrize(("command", "replies"), [("MAIL", ["421 bye", "451 later"]), ("DATA", ["451 later", "421 bye"])])
async def test_what_fails_for_now_is_sent_again_and_arrives_once(
    command: str, replies: list[str], log: pytest.LogCaptureFixture
) -> None:
    mailbox = Mailbox({command: [*replies, None]})
    async with mail_server(mailbox) as port, outbox(transport(port)) as box:
        box.post(a_reset())
        await box.drain()
    (delivery,) = mailbox.deliveries
    assert delivery.recipients == ["Ada@xn--bcher-kva.example"]
    assert delivery.sender == "no-reply@accounts.example.com"
    assert TOKEN in delivery.text.splitlines()
    assert f"{URL}/account/reset#token={TOKEN}" in delivery.text.splitlines()
    assert len(said_by(log)) == 2


async def test_a_recipient_whom_nobody_knows_is_tried_once(log: pytest.LogCaptureFixture) -> None:
    mailbox = Mailbox({"RCPT": ["550 no such user"]})
    async with mail_server(mailbox) as port, outbox(transport(port)) as box:
        box.post(a_reset())
        await box.drain()
    assert mailbox.commands == ["MAIL", "RCPT"]
    assert said_by(log) == ["gave up a mail (ResetPassword) at try 1: the server refuses it (550)"]


async def test_a_connection_that_breaks_within_the_message_is_tried_again() -> None:
    tries: list[bytes] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await say(reader, writer, "220 hi", "250 mail", "250 ok", "250 ok", "354 go on")
        tries.append(await reader.readline())
        if len(tries) < 3:
            return
        while await reader.readline() != b".\r\n":
            pass
        writer.write(b"250 taken\r\n")
        await say(reader, writer, "", "221 bye")

    async with other_server(speak) as port, outbox(transport(port)) as box:
        box.post(a_reset())
        await box.drain()
    assert len(tries) == 3


async def test_every_kind_of_mail_arrives_as_it_was_rendered() -> None:
    from pickguard.adapters.mail.rendering import samples  # noqa: PLC0415

    mailbox = Mailbox()
    async with mail_server(mailbox) as port, outbox(transport(port)) as box:
        for sample in samples():
            box.post(sample)
            await box.drain()  # one at a time: they are all to one person, and a newer token voids an older one
    assert {type(sample) for sample in samples()} == set(STEMS)
    assert len(mailbox.deliveries) == len(list(samples()))
    for delivery in mailbox.deliveries:
        assert not delivery.message.defects
        assert delivery.message["To"] == "ada@example.com"


# A directory


async def test_a_directory_gets_a_whole_file_for_each_message_that_only_its_owner_can_read(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "mail"
    by = DirectoryTransport(directory)
    await asyncio.gather(*(by.send(a_message(f"{n}\n"), sender="a@example.com", recipient="b@example.com") for n in range(9)))
    files = sorted(directory.iterdir())
    assert len(files) == 9
    assert directory.stat().st_mode & 0o777 == 0o700
    for file in files:
        assert re.fullmatch(r"\d{8}T\d{6}\.\d{6}Z-\d+-\d{6}\.eml", file.name)
        assert file.stat().st_mode & 0o777 == 0o600
        assert read(file)["Subject"] == "Hello"


async def test_a_directory_that_cannot_be_written_fails_for_now(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeliveryError) as refused:
        await DirectoryTransport(tmp_path / "file").send(a_message(), sender="a@example.com", recipient="b@example.com")
    assert not refused.value.permanent
    assert str(refused.value) == f"{tmp_path / 'file'} cannot be written: File exists"


def read(file: Path) -> EmailMessage:
    found = message_from_bytes(file.read_bytes(), policy=default)
    assert isinstance(found, EmailMessage)
    return found


# A service


def token_in(text: str) -> str:
    (token,) = re.findall(r"^\W*(pgm_\S+)$", text, re.MULTILINE)
    return str(token)


async def lead_a_life(api: Api, next_mail: Callable[[], Any]) -> None:
    """Register, verify, reset the password and log in; `next_mail` returns the plain text of the mail that comes next."""
    assert await api.register() == 201
    confirmation = {"token": token_in(await next_mail())}
    assert await api.call("POST", "/v1/email-verifications/confirm", confirmation) == (204, None)
    token = await api.log_in()
    assert (await api.call("GET", "/v1/users/me", token=token))[1]["email_verified"] is True
    assert (await api.call("POST", "/v1/password-resets", {"email": "ada@example.com"}))[0] == 202
    reset = {"token": token_in(await next_mail()), "password": OTHER_PASSWORD}
    assert await api.call("POST", "/v1/password-resets/confirm", reset) == (204, None)
    assert await api.me(token) == 401
    assert "was reset" in await next_mail()


class Arrivals:
    """The files of a directory, in the order in which they came."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._seen: set[Path] = set()

    async def next(self) -> str:
        async with asyncio.timeout(20):
            while not (new := sorted(set(self.directory.glob("*.eml")) - self._seen)):
                await asyncio.sleep(0.01)
        self._seen.add(new[0])
        part = read(new[0]).get_body(("plain",))
        assert part is not None
        return str(part.get_content()).replace("\r\n", "\n")


async def test_a_service_mails_by_smtp(data_dir: Path) -> None:
    mailbox = Mailbox()
    async with (
        mail_server(mailbox) as port,
        serving(data_dir, "--mail", f"smtp://127.0.0.1:{port}", "--public-url", URL) as service,
        service.client() as api,
    ):
        count = iter(range(1, 100))

        async def next_mail() -> str:
            number = next(count)
            return (await mailbox.until(number))[number - 1].text

        await lead_a_life(api, next_mail)
        assert f"mail         smtp://127.0.0.1:{port}" in service.announcement
        assert await service.stop() == 0
    assert {tuple(delivery.recipients) for delivery in mailbox.deliveries} == {("ada@example.com",)}
    assert {delivery.sender for delivery in mailbox.deliveries} == {"no-reply@accounts.example.com"}
    for delivery in mailbox.deliveries:
        links = re.findall(r"https?://\S+", delivery.text)
        assert all(link.startswith(f"{URL}/account/") and "#token=pgm_" in link for link in links)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_service_mails_into_a_directory(data_dir: Path, workers: str) -> None:
    mails = data_dir.parent / "mail"
    async with serving(data_dir, "--mail", f"dir:{mails}", "--workers", workers) as service, service.client() as api:
        arrivals = Arrivals(mails)
        await lead_a_life(api, arrivals.next)
        for number in range(6):
            assert await api.register(f"user{number}@example.com") == 201
        for _ in range(6):
            text = await arrivals.next()
            assert f"{service.base}/account/verify#token=pgm_" in text
        assert await service.stop() == 0
    names = [file.name for file in mails.iterdir()]
    assert len(names) == 9
    assert all(name.endswith(".eml") for name in names)


async def test_a_service_prints_mail_to_its_terminal(data_dir: Path) -> None:
    async with serving(data_dir, "--mail", "console:", "--store", "memory:") as service, service.client() as api:
        assert service.process.stdout is not None

        async def next_mail() -> str:
            assert service.process.stdout is not None
            text = ""
            async with asyncio.timeout(20):
                while "nobody reads answers to it" not in text:
                    text += (await service.process.stdout.readline()).decode()
            return text

        await lead_a_life(api, next_mail)


async def test_no_answer_waits_for_a_mail_server_that_says_nothing(data_dir: Path) -> None:
    connected = asyncio.Event()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await until_gone(reader, writer)

    loop = asyncio.get_running_loop()
    async with (
        other_server(speak) as port,
        serving(data_dir, "--mail", f"smtp://127.0.0.1:{port}", "--mail-timeout", "60s", "--store", "memory:") as service,
        service.client() as api,
    ):
        assert await api.register() == 201
        await connected.wait()
        for number in range(8):
            assert await api.register(f"user{number}@example.com") == 201
            assert (await api.call("POST", "/v1/password-resets", {"email": "ada@example.com"}))[0] == 202
        await api.log_in()
        began = loop.time()
        service.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            _, errors = await service.process.communicate()
        assert service.process.returncode == 0
        assert loop.time() - began < 20  # the grace, and not the 60 seconds of the server
    assert re.search(rb"WARNING pickguard.mail stopped with \d+ mails unsent\n", errors)
    assert b"WARNING pickguard.serve links in mails begin with https://127.0.0.1:" in errors
    assert b"ada@" not in errors
    assert b"pgm_" not in errors


async def test_what_is_queued_when_the_service_is_told_to_stop_is_sent(data_dir: Path) -> None:
    gate = asyncio.Event()

    class SlowMailbox(Mailbox):
        async def handle_DATA(self, *args: Any) -> str:  # noqa: N802
            await gate.wait()
            return await super().handle_DATA(*args)

    mailbox = SlowMailbox()
    options = ("--store", "memory:", "--shutdown-timeout", "20s")
    async with (
        mail_server(mailbox) as port,
        serving(data_dir, "--mail", f"smtp://127.0.0.1:{port}", *options) as service,
        service.client() as api,
    ):
        for number in range(7):
            assert await api.register(f"user{number}@example.com") == 201
        assert mailbox.deliveries == []
        service.process.send_signal(signal.SIGTERM)
        assert service.process.stderr is not None
        async with asyncio.timeout(20):
            while b"stopping" not in await service.process.stderr.readline():
                pass
            gate.set()
            await service.process.communicate()
        assert service.process.returncode == 0
    assert sorted(delivery.recipients[0] for delivery in mailbox.deliveries) == [f"user{n}@example.com" for n in range(7)]


async def test_line_breaks_in_a_name_or_an_address_reach_no_mail(data_dir: Path) -> None:
    """Requirement 58 (ASVS 5.0 1.3.11): no SMTP header injection."""
    mails = data_dir.parent / "mail"
    async with serving(data_dir, "--mail", f"dir:{mails}", "--store", "memory:") as service, service.client() as api:
        for injected in (
            "\r\nBcc: eve@example.com",
            "\nBcc: eve@example.com",
            "\r\n.\r\n",
            "\rX",
            "\u2028Bcc: eve@example.com",
        ):
            for name, email in (
                (f"Ada{injected}", "ada@example.com"),
                ("Ada", f"ada@example.com{injected}"),
                ("Ada", injected),
            ):
                status, problem = await api.call("POST", "/v1/users", {"name": name, "email": email, "password": GOOD_PASSWORD})
                assert (status, problem["type"]) == (422, "/problems/invalid-body")
        body = {"name": "Ada <eve@example.com>, Bcc: eve@example.com", "email": "ada@example.com", "password": GOOD_PASSWORD}
        assert (await api.call("POST", "/v1/users", body))[0] == 201
        await Arrivals(mails).next()
        assert await service.stop() == 0
    (file,) = mails.iterdir()
    message = read(file)
    assert message["To"] == "ada@example.com"
    assert message["Bcc"] is message["Cc"] is None
    assert b"eve@" not in file.read_bytes()


# A service that does not start


async def refused_start(directory: Path, *args: str, **environment: str) -> str:
    status, output, errors = await run_to_end(
        *("serve", "--port", "0", "--no-tls", "--store", "memory:", *args), environment=environment, cwd=directory
    )
    assert status in {1, 2}
    assert output == ""
    line, rest = errors.split("\n", 1)
    assert rest == ""
    return line


async def test_templates_that_cannot_be_used_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "layout.html").write_text("{% block content %}")
    line = await refused_start(tmp_path, "--mail", "console:", "--mail-templates", str(tmp_path))
    assert line.startswith(f"pickguard: --mail-templates: {tmp_path}/layout.html, line 1: ")


async def test_certificates_that_are_none_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none")
    line = await refused_start(tmp_path, "--mail", "smtps://127.0.0.1", "--mail-ca", "ca.pem", "--public-url", URL)
    assert line == "pickguard: --mail-ca: ca.pem has no certificates in PEM"


async def test_a_directory_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mail").write_text("")
    line = await refused_start(tmp_path, "--mail", "dir:mail")
    assert line == "pickguard: --mail: the directory mail cannot be used: File exists"


@pytest.mark.parametrize("package", ["jinja2", "aiosmtplib"])
@pytest.mark.parametrize("workers", [None, "2"])
async def test_a_package_that_is_missing_is_told_in_one_line(
    tmp_path: Path, package: str, workers: str | None, valkey: Engine
) -> None:
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('gone', name='{package}')\n")
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    more = ["--workers", workers, "--store", valkey.url] if workers else []
    line = await refused_start(tmp_path, "--no-pages", "--mail", "console:", *more, PYTHONPATH=path)
    assert line == f"pickguard: the package {package} is not installed: --mail needs pickguard[server]"


async def test_a_password_in_the_url_is_refused_and_not_shown(tmp_path: Path) -> None:
    line = await refused_start(tmp_path, "--mail", "smtp://ada:geheim@mail.example.com")
    assert line.startswith("pickguard: --mail: the password does not belong in the URL")
    assert "geheim" not in line
