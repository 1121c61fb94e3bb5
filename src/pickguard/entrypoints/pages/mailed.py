"""What links in mails lead to, and how such a mail is asked for. All of it is there only where there is mail.

The token stands in the fragment of the link, which no server sees; a script moves it into the form, or the person pastes it
from the mail. Looking at a page never uses a token: scanners of mail follow links. A button does.
"""

import math
from datetime import timedelta
from http import HTTPStatus

from aiohttp import web

from pickguard.domain.model.errors import AccountsError, AddressTaken
from pickguard.domain.services.recovery import Recovery
from pickguard.domain.services.verification import Verification
from pickguard.entrypoints.http.keys import SERVICES, SETTINGS
from pickguard.entrypoints.http.requests import client_of
from pickguard.entrypoints.pages.cookies import forget_session
from pickguard.entrypoints.pages.forms import Form, read_form
from pickguard.entrypoints.pages.refusals import refuse, retry_after
from pickguard.entrypoints.pages.rendering import render, texts_of
from pickguard.entrypoints.pages.texts import fill
from pickguard.entrypoints.pages.visitors import end_former_session, redirect


async def show_verify(request: web.Request) -> web.Response:
    """``GET /account/verify``."""
    return render(request, "verify.html", form=Form())


async def verify(request: web.Request) -> web.Response:
    """``POST /account/verify``."""
    form = (await read_form(request, ("token",))).require("token")
    if form.is_refused:
        return _page(request, "verify.html", form)
    try:
        await _verification(request).confirm(form["token"], client=client_of(request))
    except AddressTaken:
        return _page(request, "verify.html", form.alerted(texts_of(request).faults.email_taken, HTTPStatus.CONFLICT))
    except AccountsError as error:
        return _page(request, "verify.html", refuse(form, error, texts_of(request)), error)
    return redirect(request, done="verified")


async def show_decline(request: web.Request) -> web.Response:
    """``GET /account/decline``."""
    words = texts_of(request).decline
    if request.query.get("done") == "declined":
        return render(request, "message.html", title=words.done_title, text=words.done, back="")
    return render(request, "decline.html", form=Form())


async def decline(request: web.Request) -> web.Response:
    """``POST /account/decline``."""
    form = (await read_form(request, ("token",))).require("token")
    if form.is_refused:
        return _page(request, "decline.html", form)
    try:
        await _verification(request).decline(form["token"], client=client_of(request))
    except AccountsError as error:
        return _page(request, "decline.html", refuse(form, error, texts_of(request)), error)
    return redirect(request, "decline", done="declined")


async def show_forgot(request: web.Request) -> web.Response:
    """``GET /account/forgot``."""
    words = texts_of(request).forgot
    if request.query.get("done") == "sent":
        minutes = math.ceil(request.app[SETTINGS].reset_lifetime / timedelta(minutes=1))
        return render(
            request, "message.html", title=words.sent_title, text=fill(words.sent, minutes=minutes), back="sign-in", code=True
        )
    return render(request, "forgot.html", form=Form())


async def forgot(request: web.Request) -> web.Response:
    """``POST /account/forgot``: the answer is the same whatever the address is."""
    form = (await read_form(request, ("email",))).require("email")
    if form.is_refused:
        return _page(request, "forgot.html", form)
    await _recovery(request).request(email=form["email"].strip(), client=client_of(request))
    return redirect(request, "forgot", done="sent")


async def show_reset(request: web.Request) -> web.Response:
    """``GET /account/reset``."""
    return render(request, "reset.html", form=Form())


async def reset(request: web.Request) -> web.Response:
    """``POST /account/reset``.

    A form whose password is refused is shown with its token, which is good still and stands nowhere else by then.
    """
    services = request.app[SERVICES]
    form = (await read_form(request, ("token", "password"))).require("token", "password")
    if form.fault("password") is None:
        form = form.refused_by(services.fields.new_account(name=None, email=None, password=form["password"]))
    if form.is_refused:
        return _page(request, "reset.html", form)
    try:
        await _recovery(request).reset(form["token"], password=form["password"], client=client_of(request))
    except AccountsError as error:
        return _page(request, "reset.html", refuse(form, error, texts_of(request)), error)
    await end_former_session(request)  # which may be another account's
    response = redirect(request, "sign-in", done="reset")
    forget_session(response)
    return response


def _page(request: web.Request, template: str, form: Form, error: AccountsError | None = None) -> web.Response:
    headers = {} if error is None else retry_after(error)
    return render(request, template, status=form.status, headers=headers, form=form.without("password"))


def _verification(request: web.Request) -> Verification:
    found = request.app[SERVICES].verification
    if found is None:
        raise web.HTTPNotFound
    return found


def _recovery(request: web.Request) -> Recovery:
    found = request.app[SERVICES].recovery
    if found is None:
        raise web.HTTPNotFound
    return found
