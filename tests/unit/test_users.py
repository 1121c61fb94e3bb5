"""Names and addresses: what is taken, in which form, and what is refused."""

import unicodedata
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pickguard.domain.model.errors import Fault, InvalidFields
from pickguard.domain.model.users import EMAIL_MAX_LENGTH, NAME_MAX_LENGTH, EmailAddress, PersonName
from tests.support.strategies import NOW, examples, new_account


def only_fault(refused: pytest.ExceptionInfo[InvalidFields]) -> Fault:
    (fault,) = refused.value.faults
    return fault


# Names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Ada", "Ada"),
        ("  Ada Lovelace\t", "Ada Lovelace"),
        ("\u3000Ada\u00a0", "Ada"),
        ("Zoe\u0308", "Zo\u00eb"),
        ("O'Brien-Smith, Jr.", "O'Brien-Smith, Jr."),
        ("X", "X"),
        ("\N{GRINNING FACE}" * NAME_MAX_LENGTH, "\N{GRINNING FACE}" * NAME_MAX_LENGTH),
        (" " * 50 + "a" * NAME_MAX_LENGTH + " " * 50, "a" * NAME_MAX_LENGTH),
        ("e\u0301" * NAME_MAX_LENGTH, "\u00e9" * NAME_MAX_LENGTH),
        ("עדה لافليس", "עדה لافليس"),
        ("👩‍👩‍👧", "👩‍👩‍👧"),
    ],
)
def test_a_name_is_normalised_and_trimmed(text: str, name: str) -> None:
    assert PersonName.parse(text).value == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "\u00a0\u3000",
        "a" * (NAME_MAX_LENGTH + 1),
        "a\0b",
        "a\nb",
        "a\x7fb",
        "a\x85b",
        "a\u2028b",
        "a\u2029b",
        "a\ud800b",
        *(f"a{chr(mark)}b" for mark in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))),
    ],
)
def test_a_name_that_breaks_a_rule_is_refused(text: str) -> None:
    with pytest.raises(InvalidFields) as refused:
        PersonName.parse(text)
    assert (only_fault(refused).field, only_fault(refused).code) == ("name", "invalid_name")


@examples(40)
@given(st.text(max_size=120))
def test_every_text_is_a_name_in_its_final_form_or_refused(text: str) -> None:
    try:
        name = PersonName.parse(text)
    except InvalidFields:
        return
    assert PersonName.parse(name.value) == name
    assert unicodedata.is_normalized("NFC", name.value)
    assert name.value.strip() == name.value
    assert 1 <= len(name.value) <= NAME_MAX_LENGTH
    assert name.value.encode().decode() == name.value


# Addresses


@pytest.mark.parametrize(
    ("text", "value", "key"),
    [
        ("ada@example.com", "ada@example.com", "ada@example.com"),
        ("Ada@Example.COM", "Ada@example.com", "ada@example.com"),
        ("A.D+a@example.com", "A.D+a@example.com", "a.d+a@example.com"),
        ("o'brien@example.com", "o'brien@example.com", "o'brien@example.com"),
        ("ada@Bücher.example", "ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@bu\u0308cher.example", "ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@XN--BCHER-KVA.example", "ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@例え.jp", "ada@例え.jp", "ada@xn--r8jz45g.jp"),
        ("ada@\N{FULLWIDTH LATIN SMALL LETTER E}xample.com", "ada@example.com", "ada@example.com"),
    ],
)
def test_an_address_is_shown_as_given_and_compared_in_one_form(text: str, value: str, key: str) -> None:
    assert EmailAddress.parse(text) == EmailAddress(value=value, key=key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ada",
        "@example.com",
        "ada@",
        "ada@@example.com",
        "ada@example",
        "ada@localhost",
        "ada@example..com",
        "ada@-example.com",
        "ada@exam_ple.com",
        "ada@example.com.",
        "ada@.example.com",
        ".ada@example.com",
        "ada.@example.com",
        "a..da@example.com",
        "a da@example.com",
        "ada@exam ple.com",
        " ada@example.com",
        "ada@example.com\n",
        "ada@example.com\0",
        "ada@exa\u200bmple.com",
        "ada\N{FULLWIDTH COMMERCIAL AT}example.com",
        '"ada"@example.com',
        '"ada lovelace"@example.com',
        "Ada <ada@example.com>",
        "ada@[192.0.2.1]",
        "ada@[IPv6:2001:db8::1]",
        "ada@192.0.2.1",
        "ädä@example.com",
        "аda@example.com",  # noqa: RUF001 (a Cyrillic letter, on purpose)
        "\N{KELVIN SIGN}ada@example.com",
        "ada\u0301@example.com",
        "\ud800@example.com",
        "ada@\ud800.example",
        "ada@xn--.example",
        "ada@xn--a.example",
        "ada@xn--\udcff.example",
        "ada@" + "a" * 64 + ".com",
        "ada@" + ".".join(["a" * 60] * 5) + ".com",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidFields) as refused:
        EmailAddress.parse(text)
    assert (only_fault(refused).field, only_fault(refused).code) == ("email", "invalid_email")
    assert only_fault(refused).detail.isascii()


def address_of_length(length: int) -> str:
    domain = ".".join(["d" * 60] * 3) + ".com"
    return "a" * (length - len(domain) - 1) + "@" + domain


def test_an_address_has_at_most_254_characters() -> None:
    assert len(EmailAddress.parse(address_of_length(EMAIL_MAX_LENGTH - 5)).value) == EMAIL_MAX_LENGTH - 5
    longest = "a" * 64 + "@" + ".".join(["d" * 63, "d" * 63, "d" * 57]) + ".com"
    assert len(longest) == EMAIL_MAX_LENGTH
    assert EmailAddress.parse(longest).value == longest
    with pytest.raises(InvalidFields):
        EmailAddress.parse("a" * 64 + "@" + ".".join(["d" * 63, "d" * 63, "d" * 58]) + ".com")


labels = st.one_of(
    st.text(max_size=8), st.from_regex(r"\A(xn--)?[a-z0-9-]{1,10}\Z"), st.from_regex(r"\A[äöüßéа-яぁ-ん]{1,5}\Z")
)
address_like = st.builds(
    lambda local, label, top: f"{local}@{label}.{top}",
    st.from_regex(r"\A[A-Za-z0-9.+_-]{1,8}\Z"),
    labels,
    st.sampled_from(["com", "DE", "xn--p1ai", "рф", "example"]),
)


@examples(40)
@given(st.one_of(st.text(max_size=30), address_like))
def test_every_text_is_an_address_in_its_final_form_or_refused(text: str) -> None:
    try:
        address = EmailAddress.parse(text)
    except InvalidFields:
        return
    assert EmailAddress.parse(address.value) == address
    assert EmailAddress.parse(address.key).key == address.key
    assert address.key.isascii()
    assert address.key == address.key.lower()
    assert address.value == f"{address.local_part}@{address.value.rpartition('@')[2]}"


@examples(40)
@given(address_like)
def test_spelling_in_upper_or_lower_case_makes_no_difference(text: str) -> None:
    local, _, domain = text.partition("@")
    try:
        address = EmailAddress.parse(text)
    except InvalidFields:
        return
    for spelling in (f"{local.upper()}@{domain}", f"{local.lower()}@{domain}", address.key.upper()):
        assert EmailAddress.parse(spelling).key == address.key


# Users


@pytest.mark.parametrize("wait", [timedelta(days=-1), timedelta(0), timedelta(milliseconds=1), timedelta(days=1)])
def test_updated_at_grows_even_where_the_clock_stands_or_goes_back(wait: timedelta) -> None:
    user = new_account().user
    assert user.later(NOW + wait) == max(NOW + wait, user.updated_at + timedelta(milliseconds=1))
