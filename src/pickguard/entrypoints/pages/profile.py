"""One's own account: name, address, password, sessions, activity, and its end."""

from uuid import UUID

from aiohttp import web

from pickguard.domain.model.errors import AccountsError, InvalidToken, RateLimited, SessionNotFound
from pickguard.domain.model.identifiers import SessionId
from pickguard.domain.services.authentication import LoggedIn
from pickguard.entrypoints.http.keys import SERVICES
from pickguard.entrypoints.http.requests import UUID_TEXT, client_of
from pickguard.entrypoints.http.routes import export_response
from pickguard.entrypoints.pages.cookies import forget_session
from pickguard.entrypoints.pages.forms import Form, read_form
from pickguard.entrypoints.pages.refusals import refuse, retry_after
from pickguard.entrypoints.pages.rendering import render, texts_of
from pickguard.entrypoints.pages.visitors import FRESH, Visitor, begin_session, notice_of, redirect, signed_in

_SECRETS = ("password", "current_password")


@signed_in
async def show_profile(request: web.Request, visitor: Visitor) -> web.Response:
    """``GET /account``."""
    return _page(request, visitor, "profile.html", Form(values={"name": visitor.user.name.value}))


@signed_in
async def change_name(request: web.Request, visitor: Visitor) -> web.Response:
    """``POST /account``."""
    form = (await read_form(request, ("name",))).require("name")
    if form.is_refused:
        return _page(request, visitor, "profile.html", form)
    try:
        await request.app[SERVICES].profiles.change(visitor.token, name=form["name"], client=client_of(request))
    except AccountsError as error:
        return _refused(request, visitor, "profile.html", form, error)
    return redirect(request, done="name")


@signed_in
async def show_password(request: web.Request, visitor: Visitor) -> web.Response:
    """``GET /account/password``."""
    return _page(request, visitor, "password.html", Form())


@signed_in
async def change_password(request: web.Request, visitor: Visitor) -> web.Response:
    """``POST /account/password``."""
    services = request.app[SERVICES]
    form = (await read_form(request, _SECRETS)).require(*_SECRETS)
    form = form if form.fault("password") else form.refused_by(services.fields.new_password(visitor.user, form["password"]))
    if form.is_refused:
        return _page(request, visitor, "password.html", form)
    try:
        await services.profiles.change(
            visitor.token,
            password=form["password"],
            current_password=form["current_password"],
            client=client_of(request),
        )
    except AccountsError as error:
        return _refused(request, visitor, "password.html", form, error)
    return redirect(request, done="password")


@signed_in
async def show_address(request: web.Request, visitor: Visitor) -> web.Response:
    """``GET /account/address``."""
    return _page(request, visitor, "address.html", Form())


@signed_in
async def change_address(request: web.Request, visitor: Visitor) -> web.Response:
    """``POST /account/address``."""
    services = request.app[SERVICES]
    form = (await read_form(request, ("email", "current_password"))).require("email", "current_password")
    email = form["email"].strip()
    if form.fault("email") is None:
        form = form.refused_by(services.fields.new_account(name=None, email=email, password=None))
    if form.is_refused:
        return _page(request, visitor, "address.html", form)
    try:
        user = await services.profiles.change(
            visitor.token, email=email, current_password=form["current_password"], client=client_of(request)
        )
    except AccountsError as error:
        return _refused(request, visitor, "address.html", form, error)
    if user.pending_email is not None:
        return redirect(request, done="address-pending")
    return redirect(request, done="address-kept" if user.email == visitor.user.email else "address")


@signed_in
async def send_verification(request: web.Request, visitor: Visitor) -> web.Response:
    """``POST /account/verification``: mail another link to an address that is not confirmed."""
    await read_form(request, ())
    verification = request.app[SERVICES].verification
    if verification is None:
        raise web.HTTPNotFound
    await verification.send(visitor.token, client=client_of(request))
    return redirect(request, done="mail-sent")


@signed_in
async def show_sessions(request: web.Request, visitor: Visitor) -> web.Response:
    """``GET /account/sessions``."""
    return await _sessions_page(request, visitor, Form())


@signed_in
async def end_session(request: web.Request, visitor: Visitor) -> web.Response:
    """``POST /account/sessions/end``."""
    form = await read_form(request, ("session",))
    text = form["session"]
    try:
        if not UUID_TEXT.fullmatch(text):
            raise SessionNotFound
        await request.app[SERVICES].sessions.end(visitor.token, SessionId(UUID(text)), client=client_of(request))
    except AccountsError as error:
        if isinstance(error, InvalidToken):
            raise
        return await _sessions_page(request, visitor, refuse(form, error, texts_of(request)))
    return redirect(request, "sessions", done="session-ended")


@signed_in
async def end_other_sessions(request: web.Request, visitor: Visitor) -> web.Response:
    """``POST /account/sessions/end-others``."""
    await read_form(request, ())
    await request.app[SERVICES].sessions.end_all(visitor.token, keep_current=True, client=client_of(request))
    return redirect(request, "sessions", done="sessions-ended")


@signed_in
async def show_activity(request: web.Request, visitor: Visitor) -> web.Response:
    """``GET /account/activity``."""
    entries = await request.app[SERVICES].profiles.activity(visitor.token)
    return render(request, "activity.html", me=visitor.user, entries=entries)


@signed_in
async def show_delete(request: web.Request, visitor: Visitor) -> web.Response:
    """``GET /account/delete``."""
    return _page(request, visitor, "delete.html", Form())


@signed_in
async def delete(request: web.Request, visitor: Visitor) -> web.Response:
    """``POST /account/delete``."""
    logged_in = await _prove_password(request, visitor, "delete.html")
    if isinstance(logged_in, web.Response):
        return logged_in
    deletes_at = await request.app[SERVICES].profiles.delete(logged_in.token.reveal(), client=client_of(request))
    del request[FRESH]
    response = redirect(request, "sign-in", done="deleted" if deletes_at is None else "deletion-scheduled")
    forget_session(response)
    return response


@signed_in
async def show_export(request: web.Request, visitor: Visitor) -> web.Response:
    """``GET /account/export``."""
    return _page(request, visitor, "export.html", Form())


@signed_in
async def export(request: web.Request, visitor: Visitor) -> web.Response:
    """``POST /account/export``: the file that the API gives."""
    services = request.app[SERVICES]
    logged_in = await _prove_password(request, visitor, "export.html")
    if isinstance(logged_in, web.Response):
        return logged_in
    try:
        exported = await services.exports.export(logged_in.token.reveal(), client=client_of(request))
    except RateLimited as error:
        response = _refused(request, visitor, "export.html", Form(), error)
    else:
        response = export_response(exported, services.session_rules)
    begin_session(request, response, logged_in)
    return response


async def _prove_password(request: web.Request, visitor: Visitor, template: str) -> LoggedIn | web.Response:
    """Return the session under a new token, the password being proved by the form; or the page with what is wrong with that.

    It is asked for whenever it was proved before. What comes next may fail, and the browser must not be left with a token that
    is void: so the new one is kept in `FRESH` for whatever answer it gets.
    """
    form = (await read_form(request, ("password",))).require("password")
    if form.is_refused:
        return _page(request, visitor, template, form)
    authentication = request.app[SERVICES].authentication
    try:
        logged_in = await authentication.reauthenticate(visitor.token, password=form["password"], client=client_of(request))
    except AccountsError as error:
        return _refused(request, visitor, template, form, error, proof="password")
    request[FRESH] = logged_in
    return logged_in


async def _sessions_page(request: web.Request, visitor: Visitor, form: Form) -> web.Response:
    listed = await request.app[SERVICES].sessions.list(visitor.token)
    others = [session for session in listed.sessions if session.id != listed.current]
    current = [session for session in listed.sessions if session.id == listed.current]
    return render(
        request,
        "sessions.html",
        status=form.status,
        me=visitor.user,
        form=form,
        current=current,
        others=others,
        notice="" if form.is_refused else notice_of(request),
    )


def _refused(
    request: web.Request, visitor: Visitor, template: str, form: Form, error: AccountsError, *, proof: str = "current_password"
) -> web.Response:
    return _page(request, visitor, template, refuse(form, error, texts_of(request), proof=proof), error)


def _page(
    request: web.Request, visitor: Visitor, template: str, form: Form, error: AccountsError | None = None
) -> web.Response:
    headers = {} if error is None else retry_after(error)
    return render(
        request,
        template,
        status=form.status,
        headers=headers,
        me=visitor.user,
        form=form.without(*_SECRETS),
        notice="" if form.is_refused else notice_of(request),
    )
