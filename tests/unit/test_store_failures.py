"""What a server's refusals are called, for whoever runs it."""

import pytest
from redis._parsers.base import BaseParser

from pickguard.adapters.redis.commands import unavailable


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM"),
        ("NOPERM User ada has no permissions to run the 'get' command", "NOPERM"),
        ("READONLY You can't write against a read only replica.", "READONLY"),
        ("CLUSTERDOWN The cluster is down", "CLUSTERDOWN"),
        ("MASTERDOWN Link with MASTER is down", "MASTERDOWN"),
        ("MISCONF Errors writing to the AOF file: No space left on device", "MISCONF"),
        ("NOREPLICAS Not enough good replicas to write.", "NOREPLICAS"),
        ("ERR unknown command 'secret'", "ResponseError"),
    ],
)
def test_a_refusal_is_called_by_the_servers_own_code(said: str, code: str) -> None:
    refused = BaseParser.parse_error(said)  # type: ignore[no-untyped-call]
    assert str(unavailable(refused)) == f"the store refused a command: {code}"
