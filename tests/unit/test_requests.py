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
