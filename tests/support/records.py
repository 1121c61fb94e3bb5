"""What the scripts of limits write, byte for byte. Whoever changes that gives it another number, and goes on reading this."""

import hashlib

HERE = "192.0.2.1"
_TRIES_HERE = hashlib.sha256(HERE.encode()).digest()[:12] + bytes.fromhex(
    "00000002 019b7ca98f2f 0002 019b7ca98f2e 019b7ca98f2f"
)
_TRIES_ELSEWHERE = hashlib.sha256(b"198.51.100.7").digest()[:12] + bytes.fromhex("00000001 019b7ca98f30 0001 019b7ca98f30")
TRIES = bytes.fromhex("01 00000003 019b7ca98f30 0c") + b"198.51.100.7" + _TRIES_HERE + _TRIES_ELSEWHERE
LIMIT = bytes.fromhex("01 019b7ca98f2e 019b7ca98f2f")
