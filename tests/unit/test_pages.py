"""Words, templates and colours of one's own for the account pages, and what is wrong with them in one line."""

import re
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp_jinja2
import attrs
import pytest
from aiohttp import web

from pickguard.domain.model.activity import ActivityKind
from pickguard.domain.model.errors import (
    AccountsError,
    AddressTaken,
    Contended,
    DeletionPending,
    Fault,
    InvalidCredentials,
    InvalidToken,
    RateLimited,
    WrongPassword,
)
from pickguard.domain.model.limits import Limit
from pickguard.entrypoints.http.app import create_app
from pickguard.entrypoints.pages import rendering, texts
from pickguard.entrypoints.pages.forms import Form
from pickguard.entrypoints.pages.refusals import refuse, retry_after
from pickguard.entrypoints.pages.rendering import PAGES, PagesError, set_up
from pickguard.entrypoints.pages.samples import samples
from pickguard.entrypoints.pages.visitors import Visitor
from pickguard.entrypoints.settings import Settings
from tests.support.strategies import new_account, session

SETTINGS = Settings(store="memory:", service_name="Analytical & Co")
PACKAGE = Path(rendering.__file__).parent
CODES = re.compile(r"\"(invalid_[a-z]+|password_(?:too|guess)[a-z_]+|required)\"")


def shown(settings: Settings = SETTINGS) -> dict[str, str]:
    """Return every page, with samples."""
    app = web.Application()
    set_up(app, settings)
    environment = aiohttp_jinja2.get_env(app)
    common = {"me": None, "notice": "", "has_mail": True, "has_grace": True, "grace": "30 days", "can_sign_up": True}
    return {name: environment.get_template(name).render({**common, **values}) for name, values in samples()}


def refusal(directory: Path) -> str:
    with pytest.raises(PagesError) as refused:
        create_app(attrs.evolve(SETTINGS, pages_templates=directory))
    message = str(refused.value)
    assert message.startswith("--pages-templates: ")
    assert "\n" not in message
    return message


def test_a_form_shows_no_password_and_keeps_every_fault() -> None:
    form = Form(values={"email": "ada@example.com", "password": "a secret phrase"})
    assert "secret" not in repr(form)
    assert dict(form.without("password").values) == {"email": "ada@example.com"}
    one, other = (Fault(field=name, code="required", detail="") for name in ("email", "password"))
    assert form.refused(one).refused(other).faults == (one, other)
    assert [each.is_refused for each in (form, form.refused(one), form.alerted("It is late.", 429))] == [False, True, True]


@pytest.mark.parametrize(("milliseconds", "seconds"), [(0, "1"), (1000, "1"), (1001, "2")])
def test_nobody_is_told_to_come_back_too_early(milliseconds: int, seconds: str) -> None:
    error = RateLimited(Limit.GUESSES, retry_after=timedelta(milliseconds=milliseconds))
    assert retry_after(error) == {"Retry-After": seconds}


def test_a_visitor_shows_no_token() -> None:
    visitor = Visitor(token="pg_secret", user=new_account().user, session=session(1))
    assert "pg_secret" not in repr(visitor)


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., Settings]:
    """What writes files of one's own, and returns the settings that name them."""

    def write(**files: str) -> Settings:
        for name, content in files.items():
            (tmp_path / name.replace("_css", ".css").replace("_toml", ".toml").replace("_html", ".html")).write_text(content)
        return attrs.evolve(SETTINGS, pages_templates=tmp_path)

    return write


def test_every_template_is_among_the_samples() -> None:
    there = {file.name for file in (PACKAGE / "templates").iterdir()}
    assert there == {name for name, _ in samples()} | {"layout.html", "parts.html"}


def test_whatever_can_be_wrong_with_a_field_is_told_in_words() -> None:
    found = texts.load_texts(None)
    domain = Path(rendering.__file__).parents[2] / "domain"
    sources = [
        domain / name for name in ("model/users.py", "model/credentials.py", "services/fields.py", "services/screening.py")
    ]
    codes = {code for source in sources for code in CODES.findall(source.read_text())}
    assert {"required", "invalid_name", "invalid_email", "password_too_short", "password_guessable"} <= codes
    assert codes <= set(vars(found.faults))


def test_whatever_can_happen_to_an_account_is_told_in_words() -> None:
    found = texts.load_texts(None)
    assert {kind.value for kind in ActivityKind} == set(vars(found.events)) - {"other"}


def test_every_text_is_used() -> None:
    written = "".join(file.read_text() for kind in ("templates/*.html", "*.py") for file in sorted(PACKAGE.glob(kind)))
    by_code = {"events", "faults", "done", "problems"}
    for section, content in tomllib.loads((PACKAGE / "texts.toml").read_text()).items():
        if isinstance(content, dict) and section not in by_code:
            for name in content:
                assert re.search(rf"\b{name}\b", written), f"{section}.{name}"


def test_the_name_of_the_service_is_on_every_page_and_never_markup() -> None:
    for page in shown(attrs.evolve(SETTINGS, service_name="<b>{email}&{{7*7}}")).values():
        assert "&lt;b&gt;{email}&amp;{{7*7}}" in page
        assert "<b>" not in page


@pytest.mark.parametrize(
    ("name", "badge"), [("pickguard", "P"), ("éclair", "É"), ("東京", "東"), ("«Ω»", "Ω"), ("— —", "•"), ("<b>", "B")]
)
def test_the_badge_is_the_first_letter(name: str, badge: str) -> None:
    assert f'aria-hidden="true">{badge}</span>' in shown(attrs.evolve(SETTINGS, service_name=name))["forgot.html"]


def test_another_language(own: Callable[..., Settings]) -> None:
    german = """
lang = "de"
[sign_in]
title = "Anmelden"
lead = "Willkommen zurück bei {service}."
[time]
format = "{day}. {month} {year}, {hour}:{minute} Uhr (UTC)"
months = ["Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November", "Dezember"]
"""
    pages = shown(own(texts_toml=german))
    assert '<html lang="de" dir="ltr">' in pages["sign_in.html"]
    assert "<h1>Anmelden</h1>" in pages["sign_in.html"]
    assert "Willkommen zurück bei Analytical &amp; Co." in pages["sign_in.html"]
    assert "2. Januar 2026, 03:04 Uhr (UTC)</time>" in pages["sessions.html"]
    assert "<h1>Sign up</h1>" in pages["sign_up.html"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[sign_in", "texts.toml"),
        ('title = "x"', "there is no text title"),
        ('[sign_in]\nheading = "x"', "there is no text sign_in.heading"),
        ("[sign_in]\ntitle = 1", "sign_in.title must be a text"),
        ('sign_in = "x"', "sign_in must be a section"),
        ("[sign_in.title]", "sign_in.title must be a text"),
        ('[time]\nmonths = ["x"]', "time.months must be a list of 12 texts"),
        ('[sign_in]\ntitle = "{password}"', "sign_in.title has no {password} to show"),
    ],
)
def test_texts_that_cannot_be_used_are_named(own: Callable[..., Settings], content: str, why: str) -> None:
    directory = own(texts_toml=content).pages_templates
    assert directory is not None
    assert why in refusal(directory)


def test_texts_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "texts.toml").write_bytes(b"\xff")
    assert "texts.toml is not text in UTF-8" in refusal(tmp_path)
    (tmp_path / "texts.toml").unlink()
    (tmp_path / "texts.toml").mkdir()
    assert "texts.toml cannot be read" in refusal(tmp_path)


def test_a_template_of_ones_own_takes_the_place_of_the_packages(own: Callable[..., Settings]) -> None:
    pages = shown(
        own(message_html='{% extends "layout.html" %}{% block title %}x{% endblock %}{% block content %}OWN{% endblock %}')
    )
    assert "OWN" in pages["message.html"]
    assert "OWN" not in pages["problem.html"]
    layout = (PACKAGE / "templates/layout.html").read_text().replace("</body>", "<footer>Imprint</footer></body>")
    assert all("<footer>Imprint</footer>" in page for page in shown(own(layout_html=layout)).values())


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("message.html", "{% if %}", "message.html, line 1"),
        ("message.html", "{{ nothing }}", "message.html: 'nothing' is undefined"),
        ("message.html", "{{ t.sign_in.nothing }}", "message.html:"),
        ("message.html", "{% extends 'nothing.html' %}", "message.html: there is no template nothing.html"),
        ("message.html", "{{ app }}", "'app' is undefined"),
        ("message.html", "{{ 1 // 0 }}", "message.html:"),
        ("parts.html", "", "sign_in.html:"),
        ("singin.html", "", "there is no page singin.html"),
    ],
)
def test_a_template_that_cannot_be_used_is_named(tmp_path: Path, name: str, content: str, why: str) -> None:
    (tmp_path / name).write_text(content)
    assert why in refusal(tmp_path)


def test_a_stylesheet_is_added_to_or_replaced(own: Callable[..., Settings]) -> None:
    def style(settings: Settings) -> str:
        app = web.Application()
        set_up(app, settings)
        return app[PAGES].style.decode()

    package = style(SETTINGS)
    assert style(own(custom_css=":root { --accent: #7a1fa2 }")) == f"{package}\n:root {{ --accent: #7a1fa2 }}"
    assert style(own(style_css="body { color: red }")) == "body { color: red }\n:root { --accent: #7a1fa2 }"


def test_a_stylesheet_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "custom.css").write_bytes(b"\xff")
    assert "a stylesheet is not text in UTF-8" in refusal(tmp_path)
    (tmp_path / "custom.css").unlink()
    (tmp_path / "custom.css").mkdir()
    assert "a stylesheet cannot be read" in refusal(tmp_path)


def test_values_are_not_looked_at_for_places() -> None:
    assert texts.fill("{a} and {b}, {c}", a="{b}", b="{a}") == "{b} and {a}, {c}"


@pytest.mark.parametrize(
    ("wait", "words"),
    [
        (timedelta(milliseconds=1), "2 seconds"),
        (timedelta(seconds=61), "61 seconds"),
        (timedelta(minutes=14, seconds=1), "15 minutes"),
        (timedelta(hours=11, minutes=30), "12 hours"),
        (timedelta(days=2), "48 hours"),
        (timedelta(days=29, hours=1), "30 days"),
    ],
)
def test_how_long_to_wait_is_told_in_words(wait: timedelta, words: str) -> None:
    form = refuse(Form(), RateLimited(Limit.GUESSES, retry_after=wait), texts.load_texts(None))
    assert f"Wait {words}," in form.alert


def test_until_when_an_account_can_be_kept_is_told_in_the_words_of_the_texts(own: Callable[..., Settings]) -> None:
    months = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"]
    directory = own(texts_toml=f'[time]\nformat = "{{day}}.{{month}}"\nmonths = {months}').pages_templates
    form = refuse(Form(), DeletionPending(datetime(2026, 10, 2, 3, 4, tzinfo=UTC)), texts.load_texts(directory))
    assert "on 2.X." in form.alert


def test_what_is_about_no_form_is_for_somebody_else() -> None:
    words: SimpleNamespace = texts.load_texts(None)
    told: list[AccountsError] = [InvalidCredentials(), WrongPassword(), AddressTaken()]
    assert all(refuse(Form(), error, words).is_refused for error in told)
    others: list[AccountsError] = [InvalidToken(), Contended("busy")]
    for error in others:
        with pytest.raises(type(error)):
            refuse(Form(), error, words)


def test_a_form_says_nothing_of_what_it_holds() -> None:
    held: Any = Form(values={"password": "geheim"})
    assert "geheim" not in repr(held)
