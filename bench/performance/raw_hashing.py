"""Argon2id alone: how often a second one thread verifies a password, with the bindings that the service uses.

python -m bench.performance.raw_hashing SECONDS
"""

import json
import sys
import time

import argon2

from bench.performance.services import HASH_LANES, HASH_MEMORY, HASH_TIME, PASSWORD


def main() -> None:
    seconds = float(sys.argv[1])
    hasher = argon2.PasswordHasher(time_cost=HASH_TIME, memory_cost=HASH_MEMORY, parallelism=HASH_LANES)
    password_hash = hasher.hash(PASSWORD)
    verified, began, busy = 0, time.perf_counter(), time.process_time()
    while (taken := time.perf_counter() - began) < seconds:
        hasher.verify(password_hash, PASSWORD)
        verified += 1
    figures = {"log_in_rate": verified / taken, "cpu_ms": 1000 * (time.process_time() - busy) / verified}
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
