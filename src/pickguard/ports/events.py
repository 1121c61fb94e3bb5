"""Who wants to know what happened."""

from typing import Protocol

from pickguard.domain.model.events import Event


class EventPublisher(Protocol):
    """Is told what happened, after it was stored. Must not raise and must not wait."""

    def publish(self, event: Event) -> None:
        """Take note of one event."""
