"""FastAPI Users as its documentation sets it up: bearer tokens in Redis, users by SQLAlchemy in SQLite."""

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import redis.asyncio
from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, RedisStrategy
from fastapi_users.password import PasswordHelper
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

engine = create_async_engine(f"sqlite+aiosqlite:///{os.environ['DATABASE']}")
open_session = async_sessionmaker(engine, expire_on_commit=False)
store = redis.asyncio.from_url(os.environ["REDIS_URL"], decode_responses=True)
memory, passes, lanes = map(int, os.environ["ARGON2"].split(","))
helper = PasswordHelper(PasswordHash((Argon2Hasher(time_cost=passes, memory_cost=memory, parallelism=lanes),)))


class Base(DeclarativeBase):
    pass


class User(SQLAlchemyBaseUserTableUUID, Base):
    pass


class UserRead(schemas.BaseUser[uuid.UUID]):
    pass


class UserCreate(schemas.BaseUserCreate):
    pass


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = verification_token_secret = "x" * 32


async def get_session() -> AsyncIterator[AsyncSession]:
    async with open_session() as session:
        yield session


async def get_database(session: Annotated[AsyncSession, Depends(get_session)]) -> AsyncIterator[Any]:
    yield SQLAlchemyUserDatabase(session, User)


async def get_manager(database: Annotated[Any, Depends(get_database)]) -> AsyncIterator[UserManager]:
    yield UserManager(database, helper)


def get_strategy() -> RedisStrategy:
    return RedisStrategy(store, lifetime_seconds=3600)


backend = AuthenticationBackend(name="redis", transport=BearerTransport(tokenUrl="auth/login"), get_strategy=get_strategy)
users = FastAPIUsers[User, uuid.UUID](get_manager, [backend])


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield


app = FastAPI(lifespan=lifespan)
app.include_router(users.get_auth_router(backend), prefix="/auth")
app.include_router(users.get_register_router(UserRead, UserCreate), prefix="/auth")
app.include_router(users.get_users_router(UserRead, schemas.BaseUserUpdate), prefix="/users")
