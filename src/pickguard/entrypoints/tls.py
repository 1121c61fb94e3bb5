"""TLS: what is spoken, and a certificate for development where none is given."""

import ipaddress
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from cryptography.x509 import GeneralName

# The AEAD suites with an ephemeral key exchange of RFC 7525bis (RFC 9325, section 4.2); those of TLS 1.3 are all of that kind.
TLS_1_2_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
KEY_EXCHANGE_GROUP: Final = "prime256v1"
"""The one group of the key exchange, P-256, which every client of TLS 1.3 has (RFC 8446, section 9.1).

OpenSSL offers X448 and P-521 by default, which Mozilla's guidelines leave out, and before 3.15 Python can name one group only.
A client that begins with another takes one more round trip for its handshake (section 4.1.4).
"""
CERTIFICATE_DAYS: Final = 365
"""The longest that Mozilla's guidelines for TLS accept is 366 days."""
_RENEW_BEFORE: Final = timedelta(days=7)


class CertificateError(Exception):
    """A certificate or key cannot be used. The message is for a person and says why."""


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a context for TLS 1.2 and 1.3, forward-secret suites only (ASVS 5.0 12.1.1, 12.1.2).

    Raises `CertificateError`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(TLS_1_2_CIPHERS)
    context.set_ecdh_curve(KEY_EXCHANGE_GROUP)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION  # OpenSSL 1.1.1 lets clients ask for it, as often as they like
    for path, what in ((certificate, "certificate"), (key, "key")):
        try:
            path.read_bytes()
        except OSError as error:
            raise CertificateError(f"the {what} {path} cannot be read: {error.strerror}") from None
    try:
        # Without a password callback OpenSSL would ask at the terminal for that of an encrypted key.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError as error:
        reason = (error.reason or "not PEM").lower().replace("_", " ")
        raise CertificateError(f"the certificate {certificate} and the key {key} cannot be used: {reason}") from None
    return context


def development_certificate(directory: Path, host: str) -> tuple[Path, Path]:
    """Return the paths of a self-signed certificate and its key, made unless good ones are there. For development only.

    Raises `CertificateError` where the directory cannot be written.
    """
    certificate, key = directory / "cert.pem", directory / "key.pem"
    names = _names(host)
    if not _is_good(certificate, key, names):
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(certificate, key, names)
        except OSError as error:
            raise CertificateError(f"no development certificate can be made in {directory}: {error.strerror}") from error
    return certificate, key


def _names(host: str) -> list[str]:
    names = ["localhost", "127.0.0.1", "::1"]
    if host in {"", "0.0.0.0", "::"}:  # noqa: S104 (compared, not bound)
        return names
    try:
        name = str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        try:
            name = host.encode("idna").decode()
        except UnicodeError:
            raise CertificateError(f"no development certificate can name the host {host!r}; give one with --tls-cert") from None
    return names if name in names else [*names, name]


def _is_good(certificate: Path, key: Path, names: list[str]) -> bool:
    # OpenSSL reads it as an authority, which it is. To import cryptography for that would take 8 MiB and 25 ms at each start.
    reader = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        server_context(certificate, key)
        reader.load_verify_locations(certificate)
        (found,) = cast("list[dict[str, Any]]", reader.get_ca_certs())
        known = found.get("subjectAltName", ())
        covered = {str(ipaddress.ip_address(name)) if kind == "IP Address" else name for kind, name in known}
        expires = datetime.fromtimestamp(ssl.cert_time_to_seconds(found["notAfter"]), UTC)
    except (OSError, ValueError, CertificateError):
        return False
    return expires - datetime.now(UTC) > _RENEW_BEFORE and covered >= set(names)


def _make(certificate: Path, key: Path, names: list[str]) -> None:
    from cryptography import x509  # noqa: PLC0415 (slow to import, and needed here only)
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415

    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Pickguard development")])
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        # Its own authority, so that a client can trust it by name (curl --cacert), and nothing below it.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=True, **usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(private, hashes.SHA256())
    )
    secret = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _replace(key, secret, mode=0o600)
    _replace(certificate, made.public_bytes(serialization.Encoding.PEM), mode=0o644)


def _general_name(name: str) -> "GeneralName":
    from cryptography import x509  # noqa: PLC0415

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _replace(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file whole, under its own mode from the first byte on."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
