"""Argon2id (RFC 9106) in a bounded pool of threads."""

from pickguard.adapters.argon2.hasher import Argon2Hasher, Argon2Parameters, available_cores

__all__ = ["Argon2Hasher", "Argon2Parameters", "available_cores"]
