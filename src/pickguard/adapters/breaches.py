"""Passwords known from breaches, by asking a range service: the API that Have I Been Pwned calls Pwned Passwords, version 3.

Of a password only the first five hexadecimal digits of its SHA-1 digest are sent. The service answers with what it has that
begins with these, some hundreds of lines ``<the other 35 digits>:<how often>``, padded with lines of digests that nothing has,
whose count is 0 (``Add-Padding``), so that the length of the answer does not tell which digits were asked for.
"""

import hashlib
import logging
import re
import ssl
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final, Self

import aiohttp

from pickguard.ports.breaches import BreachCheckUnavailable

logger = logging.getLogger("pickguard.passwords")

MAX_ANSWER_BYTES: Final = 256 * 1024
"""An answer has some 80 KiB, padded."""
FAILURES: Final = 3
"""So many in a row, and the service is left alone for a while."""
PAUSE_SECONDS: Final = 30.0
LOG_EVERY_SECONDS: Final = 10.0

_PREFIX_DIGITS: Final = 5
_CONNECTIONS: Final = 16
_OK: Final = 200
_ANSWER: Final = re.compile(rb"(?:[0-9A-Fa-f]{35}:[0-9]{1,10}(?:\r?\n|\Z))*")


class RangeService:
    """A `BreachedPasswords` that asks the range service at `url`, to which the five digits are added.

    An answer takes `timeout` at most, connecting included; redirections are not followed, and an answer that is too long, or
    no list of digests, is none. After `FAILURES` in a row nothing is asked for `PAUSE_SECONDS`: a service that is down costs
    nobody the time-out but one now and then who tries it. Why passwords were not looked up is logged when it begins, then once
    in a while. `context` says whom to trust, the system's authorities if it is not given. Use it as a context manager, which
    holds the connections.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: timedelta = timedelta(seconds=1),
        context: ssl.SSLContext | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout.total_seconds())
        self._context = context
        self._now = now
        self._session: aiohttp.ClientSession | None = None
        self._failures = 0
        self._asked_again_at = now()
        self._reason = ""
        self._unchecked = 0
        self._logged_at = now() - LOG_EVERY_SECONDS

    async def __aenter__(self) -> Self:
        """Nothing is connected before the first password."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=True if self._context is None else self._context),
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Add-Padding": "true", "Accept-Encoding": "identity", "User-Agent": "pickguard"},
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def count(self, password: str) -> int:
        """See `BreachedPasswords.count`."""
        if self._failures >= FAILURES:
            if self._now() < self._asked_again_at:
                raise self._unavailable()
            self._asked_again_at = self._now() + PAUSE_SECONDS  # one tries, and the others wait for what becomes of it
        digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
        try:
            answer = await self._fetch(digest[:_PREFIX_DIGITS])
        except TimeoutError as error:
            raise self._failed("it did not answer in time") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise self._failed("its certificate cannot be verified") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._failed(f"it cannot be talked to ({type(error).__name__})") from error
        except _UnusableAnswer as error:
            raise self._failed(str(error)) from error
        self._failures = 0
        found = re.search(rb"^%b:([0-9]+)" % digest[_PREFIX_DIGITS:].encode(), answer, re.MULTILINE | re.IGNORECASE)
        return int(found[1]) if found else 0

    async def _fetch(self, prefix: str) -> bytes:
        if self._session is None:
            raise RuntimeError("use it as a context manager")
        async with self._session.get(f"{self._url}{prefix}", allow_redirects=False) as response:
            try:
                return await _read(response)
            except _UnusableAnswer:
                response.close()  # and the connection with it, of which nobody wants the rest
                raise

    def _failed(self, reason: str) -> BreachCheckUnavailable:
        self._failures += 1
        self._asked_again_at = self._now() + PAUSE_SECONDS
        self._reason = reason
        return self._unavailable()

    def _unavailable(self) -> BreachCheckUnavailable:
        self._unchecked += 1
        if self._now() - self._logged_at >= LOG_EVERY_SECONDS:
            self._logged_at = self._now()
            number, self._unchecked = self._unchecked, 0
            what = "password was" if number == 1 else "passwords were"
            logger.warning("%d new %s not looked up at the range service: %s", number, what, self._reason)
        return BreachCheckUnavailable(self._reason)


class _UnusableAnswer(Exception):
    """What came is not what a range service answers. The message says what is wrong with it, in words of ours."""


async def _read(response: aiohttp.ClientResponse) -> bytes:
    if response.status != _OK:
        raise _UnusableAnswer(f"it answered with status {response.status}")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _UnusableAnswer("its answer is compressed, which was not asked for")
    answer = bytearray()
    async for chunk in response.content.iter_any():
        answer += chunk
        if len(answer) > MAX_ANSWER_BYTES:
            raise _UnusableAnswer("its answer is too long")
    if not _ANSWER.fullmatch(answer):
        raise _UnusableAnswer("its answer is no list of digests")
    return bytes(answer)
