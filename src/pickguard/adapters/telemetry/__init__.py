"""Seeing how a service does: numbers for Prometheus, and traces by OpenTelemetry."""
