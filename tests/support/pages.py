"""The account pages, as a browser without scripts and without eyes gets them."""

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from typing import Final
from urllib.parse import urlencode

import attrs

from tests.support.fakes import GOOD_PASSWORD
from tests.support.http import EMAIL, HTML, NAME, Answer, Api

COOKIE: Final = "__Host-pickguard"
FORM: Final = "application/x-www-form-urlencoded"
POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
CHANGED: Final = {"Sec-Fetch-Site": "same-origin"}


@attrs.define
class Element:
    """An element with its attributes and all of its text."""

    tag: str
    attributes: dict[str, str]
    text: str = ""


class _Reader(HTMLParser):
    VOID: Final = frozenset({"meta", "link", "input", "br", "img", "hr"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[Element] = []
        self.elements: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} is there twice"
        found = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(found)
        if tag not in self.VOID:
            self.open.append(found)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"{tag} is closed before {self.open[-1].tag}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for each in self.open:
            each.text += data


@attrs.frozen
class Page:
    """A page, or where a browser is led to, or what it saves instead."""

    answer: Answer
    elements: tuple[Element, ...] = ()

    @classmethod
    def of(cls, answer: Answer) -> "Page":
        if answer.status == 303 or answer.method == "HEAD" or "Content-Disposition" in answer.headers:
            return cls(answer)
        assert answer.headers["Content-Type"] == HTML, answer
        reader = _Reader()
        reader.feed(answer.body.decode())
        reader.close()
        assert reader.open == []
        page = cls(answer, tuple(reader.elements))
        page.check()
        return page

    def check(self) -> None:
        """Assert what holds for every page."""
        headers = self.answer.headers
        assert headers.getall("Content-Security-Policy") == [POLICY]
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        ids = [each.attributes["id"] for each in self.elements if "id" in each.attributes]
        assert len(ids) == len(set(ids))
        for each in self.elements:
            names = set(each.attributes)
            assert not any(name.startswith("on") or name == "style" for name in names), each
            assert each.tag != "style"
            assert each.tag != "script" or (each.text == "" and each.attributes["src"].startswith("/"))
            for name in {"aria-describedby", "aria-labelledby", "for"} & names:
                assert set(each.attributes[name].split()) <= set(ids), each
            if each.tag == "form":
                assert each.attributes["method"] == "post"
                assert re.fullmatch(r"(/[^/]+)*/account(/[a-z-]+)*", each.attributes["action"])
        labelled = {each.attributes.get("for") for each in self.elements if each.tag == "label"}
        for each in self.tagged("input"):
            assert each.attributes.get("type") == "hidden" or "hidden" in each.attributes or each.attributes["id"] in labelled
        assert len(self.tagged("h1")) == len(self.tagged("main")) == len(self.tagged("title")) == 1

    @property
    def status(self) -> int:
        return self.answer.status

    @property
    def location(self) -> str:
        """Where a browser is led."""
        assert self.status == 303, self.answer
        return self.answer.headers["Location"]

    def tagged(self, tag: str) -> list[Element]:
        return [each for each in self.elements if each.tag == tag]

    def classed(self, name: str) -> list[str]:
        """Return the texts of elements of a class."""
        return [" ".join(each.text.split()) for each in self.elements if name in each.attributes.get("class", "").split()]

    @property
    def heading(self) -> str:
        return " ".join(self.tagged("h1")[0].text.split())

    @property
    def notice(self) -> str:
        return "".join(self.classed("notice"))

    @property
    def alert(self) -> str:
        return "".join(self.classed("alert"))

    @property
    def faults(self) -> dict[str, str]:
        """What is wrong with each field. A field is marked if and only if something is."""
        found = {
            each.attributes["id"].removesuffix("-fault"): each.text
            for each in self.elements
            if each.attributes.get("class") == "fault"
        }
        marked = {each.attributes["id"] for each in self.tagged("input") if each.attributes.get("aria-invalid") == "true"}
        assert marked == set(found)
        for name in found:
            assert f"{name}-fault" in self.field(name).attributes["aria-describedby"]
        return found

    def field(self, name: str) -> Element:
        return next(each for each in self.tagged("input") if each.attributes.get("name") == name)

    @property
    def values(self) -> dict[str, str]:
        """What the fields hold that are sent."""
        return {
            each.attributes["name"]: each.attributes.get("value", "")
            for each in self.tagged("input")
            if "name" in each.attributes
        }

    @property
    def focused(self) -> list[Element]:
        return [each for each in self.elements if "autofocus" in each.attributes]

    @property
    def links(self) -> list[str]:
        return [each.attributes["href"] for each in self.tagged("a")]

    @property
    def text(self) -> str:
        return self.answer.body.decode()


class Browser:
    """Keeps a cookie as browsers do."""

    def __init__(self, api: Api, **headers: str) -> None:
        self.api = api
        self.token: str | None = None
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.set_cookies: list[str] = []

    async def get(self, page: str = "", *, headers: Mapping[str, str] | None = None, method: str = "GET") -> Page:
        return await self._send(method, _path(page), headers=headers)

    async def post(self, page: str = "", fields: Mapping[str, str] | None = None, /, **more: str) -> Page:
        """Send a form as this service's own page does."""
        return await self.send(page, urlencode({**(fields or {}), **more}).encode(), CHANGED)

    async def send(self, page: str, data: bytes, headers: Mapping[str, str]) -> Page:
        """Send whatever a test likes."""
        return await self._send("POST", _path(page), data=data, headers={"Content-Type": FORM, **headers})

    async def follow(self, page: Page) -> Page:
        """Go where a page leads."""
        return await self._send("GET", page.location)

    async def _send(
        self, method: str, path: str, *, data: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Page:
        sent = {**self.headers, **(headers or {})}
        if self.token is not None:
            sent.setdefault("Cookie", f"{COOKIE}={self.token}")
        answer = await self.api.call(method, path, data=data, headers=sent)
        for line in answer.headers.getall("Set-Cookie", ()):
            self.set_cookies.append(line)
            (morsel,) = SimpleCookie(line).values()
            assert morsel.key == COOKIE
            assert (morsel["path"], morsel["domain"], morsel["samesite"]) == ("/", "", "Lax")
            assert morsel["secure"]
            assert morsel["httponly"]
            self.token = morsel.value or None
            assert (int(morsel["max-age"]) == 0) == (self.token is None)
        for secret in (self.token, GOOD_PASSWORD):
            assert secret is None or secret.encode() not in answer.body
            assert secret is None or secret not in answer.headers.get("Location", "")
        return Page.of(answer)

    async def sign_up(self, *, name: str = NAME, email: str = EMAIL, password: str = GOOD_PASSWORD) -> Page:
        """Sign up by the form, with success, and return the page that follows."""
        form = await self.get("sign-up")
        return await self.follow(
            await self.post("sign-up", {**form.values, "name": name, "email": email, "password": password})
        )

    async def sign_in(self, email: str = EMAIL, password: str = GOOD_PASSWORD) -> Page:
        """Sign in by the form, with success, and return the page that follows."""
        return await self.follow(await self.post("sign-in", email=email, password=password))


def _path(page: str) -> str:
    return page if page.startswith("/") else f"/account/{page}" if page and page[0] != "?" else f"/account{page}"
