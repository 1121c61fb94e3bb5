"""What stops a measurement."""


class BenchError(Exception):
    """The measurement cannot go on. The message is one line for a person."""
