"""An authenticator that asks the service, for each request that it is to judge."""

from types import TracebackType
from typing import Self

from pickguard.client import ClientError, PickguardClient, ProblemError
from pickguard.client import InvalidToken as RefusedToken
from pickguard.guard import UNREACHED_RETRY, InvalidToken, Principal, PrincipalSession, Unavailable

__all__ = ["OverHttp"]


class OverHttp:
    """An `Authenticator` that asks the service by HTTP, once for each request.

    ```python
    authenticator = OverHttp(PickguardClient("https://accounts.example.com"))
    ```

    A client with a service's secret introspects, and so knows the session as well; one without asks ``GET /v1/users/me``. It is
    to be opened with ``async with`` while the application runs, unless the client is open already.
    """

    def __init__(self, client: PickguardClient) -> None:
        self._client = client

    async def __aenter__(self) -> Self:
        """Open the client."""
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the client."""
        await self._client.close()

    async def authenticate(self, token: str) -> Principal:
        """See `Authenticator.authenticate`. Whatever else goes wrong, a secret that is not known included, is `Unavailable`."""
        try:
            return await (self._introspect(token) if self._client.has_service_secret else self._look_up(token))
        except RefusedToken:
            raise InvalidToken from None
        except ClientError as error:
            wait = error.retry_after if isinstance(error, ProblemError) else None
            raise Unavailable(f"{type(error).__name__}: {error}", retry_after=wait or UNREACHED_RETRY) from None

    async def _introspect(self, token: str) -> Principal:
        found = await self._client.introspect(token)
        if found is None:
            raise InvalidToken
        return Principal(
            user_id=found.user_id,
            name=found.name,
            email=found.email,
            email_verified=found.email_verified,
            session=PrincipalSession(id=found.session_id, authenticated_at=found.authenticated_at, expires_at=found.expires_at),
        )

    async def _look_up(self, token: str) -> Principal:
        user = await self._client.me(token)
        return Principal(user_id=user.id, name=user.name, email=user.email, email_verified=user.email_verified)
