"""The listener for operators: administration over HTTP, and metrics for Prometheus. Off unless it is asked for."""
