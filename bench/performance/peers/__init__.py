"""Other services that do the same, as their documentation sets them up: the same hash, sessions in the same Redis."""
