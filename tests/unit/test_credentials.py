"""The rules of passwords."""

import unicodedata
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pickguard.adapters.common_passwords import ListedPasswords
from pickguard.domain.model.credentials import (
    PASSWORD_MAX_LENGTH,
    Credential,
    PasswordRules,
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


def test_a_password_may_contain_a_word_of_its_context() -> None:
    assert fault_codes("ada likes engines", context=["ada", "", "   "]) == []


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
