"""What the core needs of the outside world, as structural protocols.

Adapters do not subclass these: a method that a subclass forgot would silently answer ``None``. A type checker proves the
fit where `pickguard.entrypoints.bootstrap` hands an adapter to a use case, and the contract suites prove the behaviour.
"""
