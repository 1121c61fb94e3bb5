"""The wording of mails: templates, and the messages made from them."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime, make_msgid, parseaddr
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import jinja2

from pickguard.domain.model.devices import Device
from pickguard.domain.model.mail import (
    AccountRestored,
    AddressChangeRequested,
    AddressWanted,
    AlreadyRegistered,
    ConfirmNewAddress,
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
from pickguard.domain.model.users import EmailAddress

STEMS: Final[dict[type[Mail], str]] = {
    VerifyAddress: "verify_address",
    ConfirmNewAddress: "confirm_new_address",
    ResetPassword: "reset_password",
    AlreadyRegistered: "already_registered",
    AddressChangeRequested: "address_change_requested",
    AddressWanted: "address_wanted",
    PasswordChanged: "password_changed",
    NewDevice: "new_device",
    DeletionScheduled: "deletion_scheduled",
    AccountRestored: "account_restored",
    DataExported: "data_exported",
}
"""For each mail, the name of its two templates, without ``.txt`` and ``.html``."""

_SUBJECT: Final = re.compile(r"Subject: (\S[^\n]*)\n\n(.+)", re.DOTALL)
_LONGEST_LINE: Final = 998
"""RFC 5322, section 2.1.1, without the line's end."""
_ENCODED_WIDTH: Final = 75
"""RFC 2047, section 2."""


class _Policy(EmailPolicy):
    """Headers in lines of up to 998 characters, but for encoded words, which are short.

    Python's own folding, at 78 characters, loses the quotes around a name with a comma, which makes two addresses of one, and
    spaces where it divides a name between encoded words (both seen in 3.11.7).
    """

    def fold_binary(self, name: str, value: Any) -> bytes:
        """See `email.policy.Policy.fold_binary`."""
        if name == "Subject" and not value.isascii():
            return f"{name}: {_encoded(name, value)}\r\n".encode("ascii")
        if name == "From" and not value.addresses[0].display_name.isascii():
            (sender,) = value.addresses
            return f"{name}: {_encoded(name, sender.display_name)}\r\n <{sender.addr_spec}>\r\n".encode("ascii")
        return super().fold_binary(name, value)


def _encoded(header: str, text: str) -> str:
    """Return a text as encoded words of RFC 2047, folded."""
    return Header(text, "utf-8", maxlinelen=_ENCODED_WIDTH, header_name=header).encode(linesep="\r\n")


POLICY: Final = _Policy(linesep="\r\n", cte_type="7bit", max_line_length=_LONGEST_LINE)
"""RFC 5322 in 7 bits, so that any server takes it: RFC 6152 and RFC 6531 are extensions."""


class TemplateError(Exception):
    """A template cannot be used. The message is one line for a person, and names the template."""


class Renderer:
    """Makes messages of mails.

    A directory of `overrides` is looked in before the package: a template that is there takes the place of the one here.
    Every template is tried once when this is made, so that one that is broken is found then and not at the first mail; what is
    changed in a file after that is not looked at.
    Raises `TemplateError`.
    """

    def __init__(self, *, service_name: str, public_url: str, sender: Address, overrides: Path | None = None) -> None:
        self._public_url = public_url
        self._sender = sender
        loaders: list[jinja2.BaseLoader] = [] if overrides is None else [jinja2.FileSystemLoader(overrides)]
        self._environment = jinja2.Environment(
            loader=jinja2.ChoiceLoader([*loaders, jinja2.PackageLoader("pickguard.adapters.mail")]),
            autoescape=jinja2.select_autoescape(["html"]),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            auto_reload=False,  # what was tried is what is sent
        )
        self._environment.globals["service"] = service_name
        self._environment.globals["public_url"] = public_url
        for sample in samples():
            self._try(sample)

    def render(self, mail: Mail) -> EmailMessage:
        """Return the message of a mail, in plain text and HTML. Raises `TemplateError`."""
        stem = STEMS[type(mail)]
        values = self._values(mail)
        found = _SUBJECT.fullmatch(self._fill(f"{stem}.txt", values))
        if found is None:
            raise TemplateError(f"{stem}.txt must begin with a line 'Subject: …', an empty line, and then the text")
        message = EmailMessage(policy=POLICY)
        message["Subject"] = found[1].strip()
        message["From"] = self._sender
        message["To"] = Address(username=mail.to.local_part, domain=mail.to.key.rpartition("@")[2])
        message["Date"] = format_datetime(datetime.now(UTC))
        message["Message-ID"] = make_msgid(domain=self._sender.domain)
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answer that nobody reads
        message["X-Auto-Response-Suppress"] = "All"
        text, html = found[2], self._fill(f"{stem}.html", values)
        message.set_content(text, cte=_encoding(text))
        message.add_alternative(html, subtype="html", cte=_encoding(html))
        return message

    def _try(self, sample: Mail) -> None:
        """Render a sample. Raises `TemplateError`, also where a part does not show the token that the mail is for."""
        message = self.render(sample)
        if isinstance(sample, TokenMail):
            for kind, ending in (("plain", "txt"), ("html", "html")):
                part = message.get_body((kind,))
                if part is None or sample.token not in part.get_content():
                    raise TemplateError(f"{STEMS[type(sample)]}.{ending} does not show the token")

    def _fill(self, name: str, values: dict[str, Any]) -> str:
        try:
            return self._environment.get_template(name).render(values)
        except jinja2.TemplateSyntaxError as error:
            raise _unusable(f"{error.filename or name}, line {error.lineno}", error.message) from None
        except jinja2.TemplateNotFound as error:
            raise _unusable(name, f"there is no template {error.name}") from None
        except Exception as error:  # noqa: BLE001 (what a template calls may raise anything)
            raise _unusable(name, str(error) or type(error).__name__) from None

    def _values(self, mail: Mail) -> dict[str, Any]:
        values: dict[str, Any] = {"to": mail.to.value, "name": mail.name}
        if isinstance(mail, TokenMail):
            values |= {
                "token": mail.token,
                "expires_at": _moment(mail.expires_at),
                "verify_url": self._link("verify", mail.token),
                "decline_url": self._link("decline", mail.token),
                "reset_url": self._link("reset", mail.token),
            }
        if isinstance(mail, (Notice, VerifyAddress)):
            values |= {"at": _moment(mail.at), "ip": mail.client.ip or "an unknown address", "device": describe(mail.client)}
        if isinstance(mail, AddressChangeRequested):
            values["new_address"] = mail.new_address.value
        if isinstance(mail, PasswordChanged):
            values |= {"by_reset": mail.by_reset, "by_operator": mail.by_operator}
        if isinstance(mail, DeletionScheduled):
            values["deletes_at"] = _moment(mail.deletes_at)
        return values

    def _link(self, page: str, token: str) -> str:
        """Return a link to a page. The token is in the fragment, which no server gets to see (ASVS 5.0 14.2.1)."""
        return f"{self._public_url}/account/{page}#token={token}"


def _unusable(what: str, why: str | None) -> TemplateError:
    return TemplateError(" ".join(f"{what}: {why}".split()))


def sender_of(text: str, *, service_name: str, public_url: str) -> Address:
    """Return whom mail is from: what is given, or an address at the host that the service is reached at."""
    name, address = parseaddr(text)
    if address:
        parsed = EmailAddress.parse(address)
        return Address(display_name=name or service_name, username=parsed.local_part, domain=parsed.key.rpartition("@")[2])
    host = urlsplit(public_url).hostname or "localhost"
    try:
        ip_address(host)
    except ValueError:
        return Address(display_name=service_name, username="no-reply", domain=host)
    return Address(display_name=service_name, username="no-reply", domain="localhost")


def describe(client: Client) -> str:
    """Return what a device seems to be, in words of our own."""
    device = Device.of(client)
    program = device.program or "an unknown program"
    return program if device.system is None else f"{program} on {device.system}"


def samples() -> Iterator[Mail]:
    """Return one mail of each kind, to try templates with."""
    to = EmailAddress(value="ada@example.com", key="ada@example.com")
    common: dict[str, Any] = {"to": to, "name": "Ada"}
    at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    proof: dict[str, Any] = {**common, "token": "pgm_token", "expires_at": at + timedelta(days=1)}
    notice: dict[str, Any] = {**common, "at": at, "client": Client(ip="192.0.2.1")}
    yield from (kind(**proof) for kind in (ConfirmNewAddress, ResetPassword, AlreadyRegistered))
    yield VerifyAddress(**proof, at=at, client=Client(ip="192.0.2.1"))
    yield AddressChangeRequested(**notice, new_address=to)
    yield AddressWanted(**notice)
    yield from (PasswordChanged(**notice, by_reset=by_reset) for by_reset in (False, True))
    yield PasswordChanged(**notice, by_reset=False, by_operator=True)
    yield from (NewDevice(**notice), AccountRestored(**notice), DataExported(**notice))
    yield DeletionScheduled(**notice, deletes_at=at + timedelta(days=30))


def _moment(moment: datetime) -> str:
    moment = moment.astimezone(UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _encoding(text: str) -> str:
    """Return how a text is written: as it is where that goes, so that a link stays whole for whoever reads the source."""
    plain = text.isascii() and all(len(line) <= _LONGEST_LINE for line in text.splitlines())
    return "7bit" if plain else "quoted-printable"
