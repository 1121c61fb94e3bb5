"""A tour through the client: every step that a person with an account takes, as a program.

Start a service with `pickguard serve`, then, in the same directory: python examples/client_tour.py
"""

import asyncio
import os
import uuid

from pickguard.client import EmailTaken, InvalidBody, InvalidToken, PickguardClient, PreconditionFailed

URL = os.environ.get("PICKGUARD_URL", "https://127.0.0.1:9443")
CA = os.environ.get("PICKGUARD_CA", "pickguard-data/tls/cert.pem")  # the development certificate vouches for itself
PASSWORD = "correct horse battery staple"


async def main() -> None:
    """Register, log in, change one's name, prove the password, and delete the account."""
    email = f"ada.{uuid.uuid4().hex}@example.com"
    async with PickguardClient(URL, ca=CA) as accounts:
        print("The service is ready" if await accounts.is_ready() else "The service is not ready")

        try:
            await accounts.register(name="Ada", email=email, password="short")
        except InvalidBody as error:
            print("Refused:", ", ".join(f"{fault.pointer} {fault.code}" for fault in error.faults))
        await accounts.register(name="Ada", email=email, password=PASSWORD)
        try:
            await accounts.register(name="Eve", email=email.upper(), password=PASSWORD)
        except EmailTaken as error:
            print("Refused:", error.detail)

        logged_in = await accounts.log_in(email=email, password=PASSWORD)
        token = logged_in.access_token  # whoever has it is Ada: keep it out of logs
        print(f"{logged_in.user.name} is logged in for {logged_in.expires_in.days} days")

        user = await accounts.me(token)
        user = await accounts.change_me(token, name="Ada Lovelace", if_match=user.etag)
        print(f"Her name is {user.name} now")
        try:
            await accounts.change_me(token, name="Augusta", if_match='"an older state"')
        except PreconditionFailed:
            print("Nobody overwrites what they have not seen")

        other = await accounts.log_in(email=email, password=PASSWORD)
        print(f"She has {len(await accounts.sessions(token))} sessions")
        await accounts.end_session(token, other.session.id)
        print("Lately:", ", ".join(each.event for each in await accounts.activity(token)))

        fresh = await accounts.reauthenticate(token, password=PASSWORD)  # the old token is refused from here on
        await accounts.delete_me(fresh.access_token)
        try:
            await accounts.me(fresh.access_token)
        except InvalidToken:
            print("The account is gone")


if __name__ == "__main__":
    asyncio.run(main())
