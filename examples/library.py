"""Accounts and sessions in a program of one's own, without a service: the library on the store in memory.

Run it with: python examples/library.py
"""

import asyncio

import pickguard

PASSWORD = "correct horse battery staple"


async def main() -> None:
    """Register, log in, look at one's sessions, and end them."""
    async with pickguard.open_services(pickguard.Settings(store="memory:")) as services:
        user = await services.registration.register(name="Ada", email="ada@example.com", password=PASSWORD)
        print(f"{user.name.value} is registered as {user.email.value}")

        try:
            await services.registration.register(name="Eve", email="ADA@example.com", password="quite another phrase")
        except pickguard.AddressTaken:
            print("The address is taken, in capitals as well")

        laptop = await services.authentication.log_in(email="ada@example.com", password=PASSWORD)
        phone = await services.authentication.log_in(email="ada@example.com", password=PASSWORD)
        token = laptop.token.reveal()  # what a client keeps; the store has a digest of it
        principal = await services.authentication.authenticate(token)
        print(f"The token is {principal.user.name.value}'s")

        listed = await services.sessions.list(token)
        print(f"There are {len(listed.sessions)} sessions")
        await services.sessions.end(token, phone.session.id)
        try:
            await services.authentication.authenticate(phone.token.reveal())
        except pickguard.InvalidToken:
            print("The phone is logged out")


if __name__ == "__main__":
    asyncio.run(main())
