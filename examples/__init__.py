"""Complete examples, each run by a test."""
