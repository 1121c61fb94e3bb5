"""The core: a pure model of accounts, and the use cases on top of it."""
