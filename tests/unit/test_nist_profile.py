"""``--profile nist``: what NIST SP 800-63B-4 asks, and no less."""

from datetime import timedelta

import pytest

from pickguard.entrypoints.settings import Settings, SettingsError


def load(**given: str) -> Settings:
    return Settings.load(given, {})


@pytest.mark.requirement(1)
def test_a_password_has_fifteen_characters_at_least() -> None:
    assert load(profile="nist").password_min_length == 15
    assert load().password_min_length == 8
    assert load(profile="nist", password_min_length="20").password_min_length == 20


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    ("name", "text", "flag"),
    [
        ("password_min_length", "14", "--password-min-length 15"),
        ("session_lifetime", "31d", "--session-lifetime of 30d"),
        ("rate_limits", "off", "--rate-limits on"),
    ],
)
def test_what_falls_short_of_it_is_refused_in_one_line(name: str, text: str, flag: str) -> None:
    with pytest.raises(SettingsError, match=f"^--profile nist needs (a )?{flag}") as refused:
        load(profile="nist", **{name: text})
    assert "\n" not in str(refused.value)


def test_the_standard_profile_keeps_nobody_from_choosing() -> None:
    chosen = load(session_lifetime="90d", rate_limits="off")
    assert (chosen.session_lifetime, chosen.rate_limits) == (timedelta(days=90), "off")


def test_a_profile_that_is_written_down_in_code_is_held_to_it() -> None:
    with pytest.raises(SettingsError):
        Settings(profile="nist")
    assert Settings(profile="nist", password_min_length=15).profile == "nist"


def test_private_registration_needs_mail() -> None:
    with pytest.raises(SettingsError, match=r"^--registration private needs --mail"):
        load(registration="private")
    assert load(registration="private", mail="console:").registration == "private"
