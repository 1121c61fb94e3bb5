"""How people are told something by mail."""

from typing import Protocol

from pickguard.domain.model.mail import Mail


class Mailer(Protocol):
    """Sends mails after the fact: a use case stores first, then hands over what it has to say, and goes on.

    A mail that was handed over is tried several times and outlives no crash: it may hold a token, and tokens are never stored.
    Whoever misses one can ask for another.
    """

    def post(self, mail: Mail) -> None:
        """Take a mail, to be sent later. Returns at once and never raises: what cannot be sent is logged."""
