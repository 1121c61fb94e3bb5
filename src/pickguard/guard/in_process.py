"""An authenticator that is the library itself, in the process of the application, on the store of the service."""

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from pickguard.entrypoints.bootstrap import Services, open_services
from pickguard.entrypoints.settings import Settings
from pickguard.guard import Principal, PrincipalSession

__all__ = ["InProcess"]


class InProcess:
    """An `Authenticator` that reads the store: one command of Redis for each request, and no service in between.

    ```python
    authenticator = InProcess(Settings(store="redis://127.0.0.1:6379"))
    ```

    It is to be opened with ``async with`` while the application runs. Given the `Services` of a program that has them, it is
    open as long as they are. The settings of sessions, `session_lifetime` and `session_idle`, must be those of the service.
    """

    def __init__(self, source: Settings | Services) -> None:
        self._source = source
        self._opened = AsyncExitStack()
        self._services = source if isinstance(source, Services) else None

    async def __aenter__(self) -> Self:
        """Open the store, if it is not open, and nothing else that the settings name. Raises what `open_services` raises."""
        if isinstance(self._source, Settings) and self._services is None:
            self._services = await self._opened.enter_async_context(open_services(self._source.for_authentication()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close what was opened."""
        if isinstance(self._source, Settings):
            self._services = None
        await self._opened.aclose()

    async def authenticate(self, token: str) -> Principal:
        """See `Authenticator.authenticate`."""
        services = self._services
        if services is None:
            raise RuntimeError("the authenticator is not open: use it within `async with`, for as long as the application runs")
        found = await services.authentication.authenticate(token)
        user, session = found.user, found.session
        return Principal(
            user_id=str(user.id),
            name=user.name.value,
            email=user.email.value,
            email_verified=user.email_verified,
            session=PrincipalSession(
                id=str(session.id),
                authenticated_at=session.authenticated_at,
                expires_at=session.expires_at(services.session_rules),
            ),
        )
