"""The HTTP API on aiohttp: routes parse, call a use case, and render."""
