"""What the application and its requests carry, under typed keys."""

import asyncio

from aiohttp import web

from pickguard.entrypoints.bootstrap import Services
from pickguard.entrypoints.http.cors import CrossOrigin
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
REQUEST_ID = web.RequestKey("request_id", str)
DEADLINE = web.RequestKey("deadline", asyncio.Timeout)
CLIENTS_SECONDS = web.RequestKey("clients_seconds", float)
"""How long a request has waited for its client."""
MEASURED = web.RequestKey("measured", Measured)
