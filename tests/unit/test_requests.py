"""What is read of a request, where a whole server would only be in the way."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from multidict import CIMultiDict

from pickguard.entrypoints.http import requests
from pickguard.entrypoints.http.keys import DEADLINE


async def test_time_that_is_the_clients_own_is_given_back_and_no_more() -> None:
    async with asyncio.timeout(60) as deadline:
        request = cast("Any", {DEADLINE: deadline})
        due = deadline.when()
        assert due is not None
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        async with requests._clients_own_time(request):
            assert deadline.when() is None
        spent = asyncio.get_running_loop().time() - began
        after = deadline.when()
        assert after is not None
        assert due <= after <= due + spent


@pytest.mark.parametrize(
    "text",
    ["application/json", "Application/JSON;charset=UTF-8", 'application/json ; charset="utf-8"', "application/json;;; a=b;"],
)
def test_a_kind_of_body_may_be_written_in_many_ways(text: str) -> None:
    found = SimpleNamespace(headers=CIMultiDict({"Content-Type": text}))
    requests._check_type(cast("Any", found), requests.JSON)


@pytest.mark.parametrize(
    "rest", [";" * 8000, ';"' + ";" * 8000, ';a="' * 2000, ";a=b" * 2000, "; " * 4000, ';a="' + "\\" * 8000]
)
def test_no_kind_of_body_takes_long_to_be_read(rest: str) -> None:
    # Quadratic time, as the standard library's parser takes, would be some hundred times as much for sixteen times the length.
    def seconds(text: str) -> float:
        runs = []
        for _ in range(5):
            began = time.perf_counter()
            requests._MEDIA_TYPE.fullmatch(f"application/json{text}")
            runs.append(time.perf_counter() - began)
        return min(runs)

    assert seconds(rest) < 100 * max(seconds(rest[: len(rest) // 16]), 2e-6)


def asking(**headers: str) -> Any:
    named = [(name.replace("_", "-"), line) for name, lines in headers.items() for line in lines.split(" | ")]
    return cast("Any", SimpleNamespace(headers=CIMultiDict(named)))


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "text/html"),
        ("", "text/html"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ("application/json", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
        ("application/problem+json", "application/json"),
        ("application/*", "application/json"),
        ("text/*, application/json", "application/json"),
        ("text/html;q=0.4, application/json;q=0.5", "application/json"),
        ("text/html, application/json;q=0.999", "text/html"),
        ("application/json | text/html", "text/html"),
        ("application/json;q=0, */*", "text/html"),
        ("text/html;q=0, */*;q=0.1", "application/json"),
        ("TEXT/HTML;Q=0.1 , Application/JSON", "application/json"),
        ("application/json;profile=x;q=0.2, text/html;q=0.1", "application/json"),
        ("image/png", "text/html"),
        ("text/html;q=2, application/json;q=nonsense", "text/html"),
        (",;q=1,,", "text/html"),
    ],
)
def test_a_client_gets_the_type_that_it_likes_best(accept: str, expected: str) -> None:
    assert requests.preferred_type(asking(Accept=accept), ("text/html", "application/json")) == expected


def test_a_client_that_says_nothing_gets_the_first_type() -> None:
    assert requests.preferred_type(asking(), ("text/html", "application/json")) == "text/html"


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        ("gzip, deflate, br", True),
        ("deflate;q=0.5, GZIP;q=0.1", True),
        ("*", True),
        ("gzip;q=0, *", False),
        ("identity", False),
        ("br;q=1.0, *;q=0", False),
        ("", False),
    ],
)
def test_a_coding_is_used_where_the_client_takes_it(sent: str, *, taken: bool) -> None:
    assert requests.accepts_coding(asking(Accept_Encoding=sent), "gzip") is taken
    assert not requests.accepts_coding(asking(), "gzip")
