"""What the application and its requests carry, under typed keys."""

import asyncio
from collections.abc import Callable

from aiohttp import web

from pickguard.entrypoints.bootstrap import Services
from pickguard.entrypoints.http.cors import CrossOrigin
from pickguard.entrypoints.http.problems import Problem
from pickguard.entrypoints.http.refusals import Refusals
from pickguard.entrypoints.http.watching import Measured, Watching
from pickguard.entrypoints.settings import Settings

SETTINGS = web.AppKey("settings", Settings)
CROSS_ORIGIN = web.AppKey("cross_origin", CrossOrigin)
DESCRIPTION = web.AppKey("description", bytes)
"""The API's description, as it is sent."""
REFUSALS = web.AppKey("refusals", Refusals)
SERVICES = web.AppKey("services", Services)
WATCHING = web.AppKey("watching", Watching)
PROBLEM_PAGE = web.AppKey[Callable[[web.Request, Problem, str], web.Response]]("problem_page")
"""What shows a problem to a person, with the request's id, where the account pages are on."""
REQUEST_ID = web.RequestKey("request_id", str)
DEADLINE = web.RequestKey("deadline", asyncio.Timeout)
CLIENTS_SECONDS = web.RequestKey("clients_seconds", float)
"""How long a request has waited for its client."""
MEASURED = web.RequestKey("measured", Measured)
