"""Token introspection (RFC 7662): other services ask whose a token is that they were sent."""

from aiohttp import hdrs, web

from pickguard.entrypoints.http.keys import SERVICES
from pickguard.entrypoints.http.problems import ProblemError, problem
from pickguard.entrypoints.http.requests import JSON, client_of, read_parameters, service_credential
from pickguard.entrypoints.http.schemas import render_introspection


async def introspect(request: web.Request) -> web.Response:
    """``POST /v1/introspection``. Who asks is examined before what they ask.

    The token in the body is what is asked about; what opens this resource is the credential in the header.
    """
    services = request.app[SERVICES]
    if services.introspection is None:
        raise web.HTTPNotFound
    name, secret = service_credential(request)
    services.introspection.admit(secret, name=name, client=client_of(request))
    form = await read_parameters(request)
    token = form.get("token")
    if token is None:
        raise ProblemError(problem("malformed-body", "The form has no parameter token: the token that is asked about."))
    principal = await services.introspection.introspect(token)
    return web.Response(body=render_introspection(principal, services.session_rules), content_type=JSON[0])


SERVICE_ROUTES = ((hdrs.METH_POST, "/v1/introspection", introspect),)
"""What there is only where other services have credentials."""
