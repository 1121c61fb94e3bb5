"""The ways in: settings, the composition root, the command line and the HTTP API."""
