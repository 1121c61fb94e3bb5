"""Accounts to store, made without a hasher: those of `pickguard.testing`."""

from pickguard.testing.accounts import a_session, an_account, at_address, ending, operation, renamed
from pickguard.testing.fakes import NOW

__all__ = ["NOW", "a_session", "an_account", "at_address", "ending", "operation", "renamed"]
