"""Accounts and sessions: register, log in for an opaque bearer token, see and end sessions, change and delete the account."""

from pickguard.domain.model.accounts import Account
from pickguard.domain.model.credentials import PasswordRules
from pickguard.domain.model.errors import (
    AccountNotFound,
    AccountsError,
    AddressTaken,
    AddressUndecided,
    Contended,
    DeletionPending,
    Fault,
    HashingOverloaded,
    IdempotencyKeyReused,
    InvalidCredentials,
    InvalidCursor,
    InvalidFields,
    InvalidServiceCredential,
    InvalidToken,
    NotReplicated,
    OutcomeUnknown,
    PreconditionFailed,
    RateLimited,
    ReauthenticationRequired,
    RegistrationClosed,
    SessionNotFound,
    StoreUnavailable,
    TokenSpent,
    Unavailable,
    WrongPassword,
)
from pickguard.domain.model.identifiers import SessionId, UserId
from pickguard.domain.model.portable import NotPortable, dump_account, load_account
from pickguard.domain.model.sessions import Client, Session, SessionRules, Token
from pickguard.domain.model.users import EmailAddress, PersonName, User
from pickguard.domain.services.authentication import LoggedIn, Principal
from pickguard.domain.services.exports import DataExport
from pickguard.domain.services.registration import RegistrationMode
from pickguard.domain.services.sessions import SessionList
from pickguard.entrypoints.bootstrap import (
    Argon2Hasher,
    Argon2Parameters,
    MemoryAccounts,
    Services,
    build_services,
    open_services,
)
from pickguard.entrypoints.settings import Settings, SettingsError

__all__ = [
    "Account",
    "AccountNotFound",
    "AccountsError",
    "AddressTaken",
    "AddressUndecided",
    "Argon2Hasher",
    "Argon2Parameters",
    "Client",
    "Contended",
    "DataExport",
    "DeletionPending",
    "EmailAddress",
    "Fault",
    "HashingOverloaded",
    "IdempotencyKeyReused",
    "InvalidCredentials",
    "InvalidCursor",
    "InvalidFields",
    "InvalidServiceCredential",
    "InvalidToken",
    "LoggedIn",
    "MemoryAccounts",
    "NotPortable",
    "NotReplicated",
    "OutcomeUnknown",
    "PasswordRules",
    "PersonName",
    "PreconditionFailed",
    "Principal",
    "RateLimited",
    "ReauthenticationRequired",
    "RegistrationClosed",
    "RegistrationMode",
    "Services",
    "Session",
    "SessionId",
    "SessionList",
    "SessionNotFound",
    "SessionRules",
    "Settings",
    "SettingsError",
    "StoreUnavailable",
    "Token",
    "TokenSpent",
    "Unavailable",
    "User",
    "UserId",
    "WrongPassword",
    "build_services",
    "dump_account",
    "load_account",
    "open_services",
]
