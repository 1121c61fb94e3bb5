"""How fast the service is, beside what the machine allows and beside other services: `make bench`, `make bench-peers`."""
