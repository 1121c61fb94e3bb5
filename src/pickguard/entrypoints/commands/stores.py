"""The store that a command works on, and the use cases on it."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import aclosing, contextmanager
from typing import Any, Final, NoReturn, TypeVar
from uuid import UUID

from pickguard.domain.model.errors import (
    AccountNotFound,
    AccountsError,
    AddressTaken,
    InvalidCursor,
    InvalidFields,
    OutcomeUnknown,
    SessionNotFound,
    StoreUnavailable,
)
from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.users import User
from pickguard.entrypoints.bootstrap import Services, find_store, open_services
from pickguard.entrypoints.commands.common import fail, refuse, say
from pickguard.entrypoints.settings import Settings, SettingsError
from pickguard.ports.directory import DirectoryEntry

_Result = TypeVar("_Result")

PAGE: Final = 500
"""Accounts that are read at once."""


class Workplace:
    """The store that a command works on, for several tasks. Between two of them a person can be asked: no event loop runs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def do(self, task: Callable[[Services], Awaitable[_Result]]) -> _Result:
        """Do something with the use cases, and return what comes of it."""
        return _run(_with_services(self._settings, task))


def work(settings: Settings, task: Callable[[Services], Awaitable[_Result]]) -> _Result:
    """Do one thing with the store that the settings name, and return what comes of it. What is wrong ends the command."""
    with workplace(settings) as place:
        return place.do(task)


@contextmanager
def workplace(settings: Settings, *, mails: bool = False) -> Generator[Workplace]:
    """Open the store that the settings name; it may be in use by a service. What is wrong ends the command.

    Nothing is mailed unless the command `mails`, and the settings say how.
    """
    if settings.store == "memory:":
        refuse("--store memory: belongs to one process, and nobody else can look at it")
    try:
        with _no_warnings(), find_store(settings if mails else settings.without_mail()) as found:
            yield Workplace(found)
    except SettingsError as error:
        refuse(str(error))
    except StoreUnavailable as error:
        fail(f"--store {settings.shown_store}: {error}" if settings.store else str(error))
    except AccountsError as error:
        fail(explain(error))


@contextmanager
def _no_warnings() -> Generator[None]:
    """Leave it to the doctor to say what is worth a warning about a store; what fails here, an error says."""
    logger = logging.getLogger("pickguard.store")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


async def _with_services(settings: Settings, task: Callable[[Services], Awaitable[_Result]]) -> _Result:
    async with open_services(settings) as services:
        return await task(services)


def _run(main: Coroutine[Any, Any, _Result]) -> _Result:
    try:
        import uvloop  # noqa: PLC0415 (not there on every interpreter)
    except ImportError:
        return asyncio.run(main)
    result: _Result = uvloop.run(main)
    return result


def explain(error: AccountsError) -> str:
    """Return what an error means, for whoever runs a command."""
    if isinstance(error, InvalidFields):
        return " ".join(fault.detail for fault in error.faults)
    if isinstance(error, OutcomeUnknown):
        return f"{error}: it may have been done or not; look with `pickguard users show`"
    texts = {
        AccountNotFound: "there is no such account",
        AddressTaken: "another account has this address",
        SessionNotFound: "the account has no such session",
        InvalidCursor: "the store was restarted or replaced meanwhile, so not every account was seen; begin again",
    }
    return texts.get(type(error), str(error))


class Walk:
    """All entries of the directory, one after the other. Those that cannot be read are named on standard error, and counted."""

    def __init__(self, services: Services, *, wanted: Callable[[User], bool] | None = None) -> None:
        self._services = services
        self._wanted = wanted
        self.unreadable = 0

    async def pages(self) -> AsyncGenerator[tuple[DirectoryEntry, ...]]:
        """Yield the entries, some at a time."""
        cursor = None
        while True:
            page = await self._services.administration.page(after=cursor, limit=PAGE, wanted=self._wanted)
            for user_id in page.unreadable:
                self.unreadable += 1
                say(f"the account {user_id} cannot be read; see `pickguard doctor`")
            yield page.entries
            cursor = page.next
            if cursor is None:
                return

    async def entries(self) -> AsyncGenerator[DirectoryEntry]:
        """Yield each entry."""
        async with aclosing(self.pages()) as pages:
            async for entries in pages:
                for entry in entries:
                    yield entry


async def find_user(services: Services, named: str) -> UserId:
    """Return the id of whom a command names, by id or by address. Who is not there ends the command."""
    if "@" not in named:
        try:
            return UserId(UUID(named))
        except ValueError:
            refuse(f"{named!r} is neither the id of a user nor an e-mail address")
    try:
        return (await services.administration.find(named)).id
    except InvalidFields as error:
        refuse(f"{named!r}: {explain(error)}")
    except AccountNotFound:
        not_there(named)


def not_there(named: str) -> NoReturn:
    """End the command: nobody is there by this name."""
    fail(f"nobody has the {'address' if '@' in named else 'id'} {named}")
