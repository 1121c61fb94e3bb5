"""Signing up, in and out."""

import contextlib
from http import HTTPStatus
from uuid import uuid4

from aiohttp import web

from pickguard.domain.model.errors import AccountsError, InvalidToken
from pickguard.domain.services.registration import RegistrationMode
from pickguard.entrypoints.http.keys import SERVICES
from pickguard.entrypoints.http.requests import client_of
from pickguard.entrypoints.pages.cookies import forget_session, session_cookie
from pickguard.entrypoints.pages.forms import Form, read_form
from pickguard.entrypoints.pages.refusals import refuse, retry_after
from pickguard.entrypoints.pages.rendering import render, texts_of
from pickguard.entrypoints.pages.visitors import (
    KEPT,
    SIGNED_IN,
    begin_session,
    end_former_session,
    next_of,
    notice_of,
    redirect,
    visitor_of,
)


async def show_sign_in(request: web.Request) -> web.Response:
    """``GET /account/sign-in``."""
    with contextlib.suppress(InvalidToken):
        await visitor_of(request)
        return redirect(request, next_of(request.query.get("next", "")))
    return _sign_in_page(request, Form(values={"next": next_of(request.query.get("next", ""))}))


async def sign_in(request: web.Request) -> web.Response:
    """``POST /account/sign-in``."""
    services = request.app[SERVICES]
    form = (await read_form(request, ("email", "password", "next", "keep"))).require("email", "password")
    if form.is_refused:
        return _sign_in_page(request, form)
    try:
        authentication = services.authentication
        enter = authentication.restore if form["keep"] else authentication.log_in
        logged_in = await enter(email=form["email"].strip(), password=form["password"], client=client_of(request))
    except AccountsError as error:
        return _sign_in_page(request, refuse(form, error, texts_of(request)), error)
    await end_former_session(request)
    done = KEPT if form["keep"] else SIGNED_IN
    return begin_session(request, redirect(request, next_of(form["next"]), done=done), logged_in)


async def show_sign_up(request: web.Request) -> web.Response:
    """``GET /account/sign-up``."""
    words = texts_of(request)
    if request.app[SERVICES].registration.mode is RegistrationMode.CLOSED:
        return _closed(request)
    if request.query.get("done") == "check-mail":
        return render(request, "message.html", title=words.check_mail.title, text=words.check_mail.text, back="sign-in")
    with contextlib.suppress(InvalidToken):
        await visitor_of(request)
        return redirect(request)
    return _sign_up_page(request, Form())


async def sign_up(request: web.Request) -> web.Response:
    """``POST /account/sign-up``."""
    services = request.app[SERVICES]
    mode, client = services.registration.mode, client_of(request)
    if mode is RegistrationMode.CLOSED:
        return _closed(request)
    form = (await read_form(request, ("name", "email", "password", "key"))).require("name", "email", "password")
    given = {"name": form["name"], "email": form["email"].strip(), "password": form["password"]}
    form = form.refused_by(
        services.fields.new_account(
            **{
                # What is empty is at fault already.
                name: None if form.fault(name) else text
                for name, text in given.items()
            }
        )
    )
    if form.is_refused:
        return _sign_up_page(request, form)
    try:
        if mode is RegistrationMode.PRIVATE:
            await services.registration.register_privately(**given, idempotency_key=form["key"] or None, client=client)
            return redirect(request, "sign-up", done="check-mail")
        await services.registration.register(**given, idempotency_key=form["key"] or None, client=client)
    except AccountsError as error:
        return _sign_up_page(request, refuse(form, error, texts_of(request)), error)
    try:
        logged_in = await services.authentication.log_in(email=given["email"], password=given["password"], client=client)
    except AccountsError:  # the account is there, and that is what was asked for
        return redirect(request, "sign-in", done="sign-in-now")
    await end_former_session(request)
    done = "welcome-mail" if services.has_mail else "welcome"
    return begin_session(request, redirect(request, done=done), logged_in)


async def sign_out(request: web.Request) -> web.Response:
    """``POST /account/sign-out``."""
    await read_form(request, ())
    token = session_cookie(request)
    if token is not None:
        with contextlib.suppress(InvalidToken):
            await request.app[SERVICES].sessions.log_out(token, client=client_of(request))
    response = redirect(request, "sign-in", done="signed-out")
    forget_session(response)
    return response


def _sign_in_page(request: web.Request, form: Form, error: AccountsError | None = None) -> web.Response:
    headers = {} if error is None else retry_after(error)
    form = form.without("password")
    notice = "" if form.is_refused else notice_of(request)
    return render(request, "sign_in.html", status=form.status, headers=headers, form=form, notice=notice)


def _sign_up_page(request: web.Request, form: Form, error: AccountsError | None = None) -> web.Response:
    headers = {} if error is None else retry_after(error)
    # Whatever is sent from this page is a new request, and what is sent twice from it is one.
    return render(request, "sign_up.html", status=form.status, headers=headers, form=form.without("password"), key=str(uuid4()))


def _closed(request: web.Request) -> web.Response:
    words = texts_of(request).sign_up
    return render(
        request,
        "message.html",
        status=HTTPStatus.FORBIDDEN,
        title=words.closed_title,
        text=words.closed,
        back="sign-in",
    )
