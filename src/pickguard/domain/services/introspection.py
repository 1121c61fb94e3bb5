"""Telling another service whose a token is (RFC 7662)."""

import attrs

from pickguard.domain.model.errors import InvalidServiceCredential, InvalidToken
from pickguard.domain.model.events import ServiceRefused
from pickguard.domain.model.service_credentials import ServiceCredential, ServiceSecret
from pickguard.domain.model.sessions import Client
from pickguard.domain.services.authentication import Authentication, Principal
from pickguard.ports.clock import Clock
from pickguard.ports.events import EventPublisher
from pickguard.ports.service_credentials import ServiceCredentialSource


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Introspection:
    """Lets services that have proved themselves look at tokens that they were sent."""

    _authentication: Authentication
    _credentials: ServiceCredentialSource
    _events: EventPublisher
    _clock: Clock

    def admit(self, secret: str, *, name: str | None = None, client: Client | None = None) -> ServiceCredential:
        """Return which service this is. Raises `InvalidServiceCredential`, and publishes `ServiceRefused`.

        Attempts are not limited: a secret has 264 random bits, and is looked for without a store and without costly hashing.
        """
        try:
            return self._credentials.current().identify(ServiceSecret.parse(secret), name=name)
        except InvalidServiceCredential:
            self._events.publish(ServiceRefused(user_id=None, at=self._clock.now(), client=client or Client()))
            raise

    async def introspect(self, token: str) -> Principal | None:
        """Return whom a token stands for, None where it opens nothing: unknown, expired, revoked and garbage are one.

        It is a use of the session, as a request with the token itself is. Raises `StoreUnavailable`.
        """
        try:
            return await self._authentication.authenticate(token)
        except InvalidToken:
            return None
