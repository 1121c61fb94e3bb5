"""Which other services may ask whose a token is."""

from typing import Protocol

from pickguard.domain.model.service_credentials import ServiceCredentials


class ServiceCredentialSource(Protocol):
    """Knows the credentials of services, as they are now."""

    def current(self) -> ServiceCredentials:
        """Return them all. Must not raise and must not wait for a network."""
