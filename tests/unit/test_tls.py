"""TLS: which certificates can be used, what the development certificate is, and what is spoken."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from pickguard.entrypoints import tls
from pickguard.entrypoints.tls import CERTIFICATE_DAYS, CertificateError, development_certificate, server_context

Pair = tuple[Path, Path]


@pytest.fixture
def pair(data_dir: Path) -> Pair:
    """A development certificate and its key."""
    return development_certificate(data_dir, "127.0.0.1")


def contents(pair: Pair) -> tuple[bytes, bytes]:
    return pair[0].read_bytes(), pair[1].read_bytes()


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names(path: Path) -> set[str]:
    found = read(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(each.value) for each in found}


# The development certificate


def test_a_development_certificate_is_made_where_none_is(pair: Pair, data_dir: Path) -> None:
    assert pair == (data_dir / "cert.pem", data_dir / "key.pem")
    made = read(pair[0])
    lifetime = made.not_valid_after_utc - made.not_valid_before_utc
    assert CERTIFICATE_DAYS < 366
    assert timedelta(days=CERTIFICATE_DAYS) <= lifetime <= timedelta(days=CERTIFICATE_DAYS, hours=1)
    assert made.not_valid_before_utc < datetime.now(UTC)
    assert names(pair[0]) == {"localhost", "127.0.0.1", "::1"}
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_only_the_owner_can_read_the_key_and_nothing_else_is_left(pair: Pair, data_dir: Path) -> None:
    assert pair[1].stat().st_mode & 0o777 == 0o600
    assert data_dir.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in data_dir.iterdir()) == ["cert.pem", "key.pem"]


def test_a_good_development_certificate_is_kept(pair: Pair, data_dir: Path) -> None:
    before = contents(pair)
    for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "::", ""):
        assert development_certificate(data_dir, host) == pair
    assert contents(pair) == before


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "accounts.example.com"])
def test_a_development_certificate_for_another_host_is_made_anew_once(pair: Pair, data_dir: Path, host: str) -> None:
    before = contents(pair)
    development_certificate(data_dir, host)
    made = contents(pair)
    assert made != before
    assert names(pair[0]) == {"localhost", "127.0.0.1", "::1", host}
    development_certificate(data_dir, host)
    development_certificate(data_dir, "localhost")
    assert contents(pair) == made


@pytest.mark.parametrize("host", ["0:0:0:0:0:0:0:1", "2001:DB8::1", "2001:db8:0::1", "::ffff:127.0.0.1"])
def test_a_host_in_another_spelling_needs_no_other_certificate_at_the_next_start(data_dir: Path, host: str) -> None:
    made = contents(development_certificate(data_dir, host))
    assert contents(development_certificate(data_dir, host)) == made


def test_a_host_whose_name_is_not_ascii_is_named_or_refused(data_dir: Path) -> None:
    try:
        pair = development_certificate(data_dir, "bücher.example")
    except CertificateError:
        return
    server_context(*pair)


def past(ago: timedelta) -> type[datetime]:
    class Past(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Past":
            return cls.fromtimestamp((datetime.now(UTC) - ago).timestamp(), tz)

    return Past


@pytest.mark.parametrize(("days_left", "kept"), [(-1, False), (6, False), (8, True)])
def test_a_development_certificate_is_renewed_a_week_before_it_expires(
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    days_left: int,
    kept: bool,  # noqa: FBT001
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(tls, "datetime", past(timedelta(days=CERTIFICATE_DAYS - days_left)))
        pair = development_certificate(data_dir, "localhost")
    before = contents(pair)
    assert (contents(development_certificate(data_dir, "localhost")) == before) == kept
    assert read(pair[0]).not_valid_after_utc > datetime.now(UTC) + timedelta(days=7)


SPOILED: dict[str, Callable[[Path, Path], object]] = {
    "the certificate is gone": lambda certificate, _: certificate.unlink(),
    "the key is gone": lambda _, key: key.unlink(),
    "the certificate is empty": lambda certificate, _: certificate.write_bytes(b""),
    "the certificate is no PEM": lambda certificate, _: certificate.write_bytes(b"\xff\xfe\0"),
    "the certificate is cut": lambda certificate, _: certificate.write_bytes(certificate.read_bytes()[:300]),
    "the key is no PEM": lambda _, key: key.write_bytes(b"key"),
    "the key is another": lambda _, key: key.write_bytes(new_key()),
    "the files are swapped": lambda certificate, key: certificate.write_bytes(key.read_bytes()),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_spoiled_development_certificate_is_made_anew(
    pair: Pair, data_dir: Path, spoil: Callable[[Path, Path], object]
) -> None:
    spoil(*pair)
    server_context(*development_certificate(data_dir, "localhost"))
    assert pair[1].stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("below", ["", "tls"])
def test_a_directory_that_cannot_be_made_is_a_certificate_error(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CertificateError, match="no development certificate can be made in"):
        development_certificate(tmp_path / "file" / below, "localhost")


# Certificates of one's own


def new_key(password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


UNUSABLE = {
    **SPOILED,
    "the key is encrypted": lambda _, key: key.write_bytes(new_key(b"password")),
    "the certificate is a directory": lambda certificate, _: (certificate.unlink(), certificate.mkdir()),
    "the key is a directory": lambda _, key: (key.unlink(), key.mkdir()),
}


@pytest.mark.parametrize("spoil", UNUSABLE.values(), ids=UNUSABLE)
def test_a_certificate_that_cannot_be_used_is_refused_in_one_line_that_names_the_file(
    pair: Pair, spoil: Callable[[Path, Path], object]
) -> None:
    spoil(*pair)
    with pytest.raises(CertificateError) as refused:
        server_context(*pair)
    assert "\n" not in str(refused.value)
    assert str(pair[0]) in str(refused.value) or str(pair[1]) in str(refused.value)
    assert "PRIVATE KEY" not in str(refused.value)


# What is spoken


@pytest.mark.requirement(62)
def test_only_tls_1_2_and_1_3_with_forward_secret_aead_suites_are_offered(pair: Pair) -> None:
    context = server_context(*pair)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.maximum_version in {ssl.TLSVersion.MAXIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_3}
    assert {ssl.OP_NO_RENEGOTIATION, ssl.OP_NO_COMPRESSION} <= set(context.options)
    suites = {(suite["protocol"], suite["name"]) for suite in context.get_ciphers()}
    assert {protocol for protocol, _ in suites} == {"TLSv1.2", "TLSv1.3"}
    for protocol, name in suites:
        assert name.startswith("TLS_" if protocol == "TLSv1.3" else "ECDHE-")
        assert "GCM" in name or "CHACHA20" in name


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(("group", "taken"), [("prime256v1", True), ("secp521r1", False)])
def test_keys_are_exchanged_on_p_256_and_on_no_curve_that_mozilla_leaves_out(
    pair: Pair,
    version: ssl.TLSVersion,
    group: str,
    taken: bool,  # noqa: FBT001
) -> None:
    client_context = ssl.create_default_context(cafile=pair[0])
    client_context.minimum_version = client_context.maximum_version = version
    client_context.set_ecdh_curve(group)
    if taken:
        shake_hands(server_context(*pair), client_context)
        return
    with pytest.raises(ssl.SSLError):
        shake_hands(server_context(*pair), client_context)


def shake_hands(context: ssl.SSLContext, client_context: ssl.SSLContext) -> ssl.SSLObject:
    """Let a client and a server shake hands in memory; return the client's end."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname="localhost")
    done: set[ssl.SSLObject] = set()
    for _ in range(10):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            done.add(end)
        if len(done) == 2:
            return client
    raise AssertionError


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_trusts_the_development_certificate_connects(pair: Pair, version: ssl.TLSVersion) -> None:
    client_context = ssl.create_default_context(cafile=pair[0])
    client_context.minimum_version = client_context.maximum_version = version
    client_context.set_alpn_protocols(["h2", "http/1.1"])
    client = shake_hands(server_context(*pair), client_context)
    assert client.version() == {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[version]
    assert client.selected_alpn_protocol() == "http/1.1"


def test_a_client_that_knows_only_suites_without_forward_secrecy_is_refused(pair: Pair) -> None:
    client_context = ssl.create_default_context(cafile=pair[0])
    client_context.maximum_version = ssl.TLSVersion.TLSv1_2
    client_context.set_ciphers("AES256-GCM-SHA384:AES128-SHA")
    with pytest.raises(ssl.SSLError):
        shake_hands(server_context(*pair), client_context)
