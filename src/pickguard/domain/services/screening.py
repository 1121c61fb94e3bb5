"""Keeping out passwords that are known from breaches."""

import attrs

from pickguard.domain.model.errors import Fault, InvalidFields
from pickguard.domain.model.events import BreachCheckSkipped
from pickguard.domain.model.identifiers import UserId
from pickguard.ports.breaches import BreachCheckUnavailable, BreachedPasswords
from pickguard.ports.clock import Clock
from pickguard.ports.events import EventPublisher


@attrs.frozen(kw_only=True, eq=False, repr=False)
class PasswordScreen:
    """Looks new passwords up among those that were stolen elsewhere, where there is a service to ask.

    Ask it last, when nothing else is wrong with what was given: it may take the time that the service takes.
    """

    _breaches: BreachedPasswords | None
    _events: EventPublisher
    _clock: Clock

    async def raise_if_breached(self, password: str, *, field: str = "password", user_id: UserId | None = None) -> None:
        """Raise `InvalidFields` (``password_too_common``) where a new (normalised) password is known from a breach.

        Where that cannot be told the password is let pass, and `BreachCheckSkipped` is published: people go on registering
        while somebody else's service is down. The lists that are installed have been asked already. `user_id` is whose the
        password will be, if that is known.
        """
        if self._breaches is None:
            return
        try:
            count = await self._breaches.count(password)
        except BreachCheckUnavailable:
            self._events.publish(BreachCheckSkipped(user_id=user_id, at=self._clock.now()))
            return
        if count:
            detail = (
                "This password was found in data that was stolen from other services. "
                "Choose another, and change it wherever you use it."
            )
            raise InvalidFields((Fault(field=field, code="password_too_common", detail=detail),))
