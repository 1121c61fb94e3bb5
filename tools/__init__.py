"""What builds things around the package."""
