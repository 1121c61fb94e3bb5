"""What `make bench` reads from Linux, from wrk and from those who log in."""

import os
import subprocess
import sys

import pytest

from bench.performance.errors import BenchError
from bench.performance.log_ins import Answer, Storm, quantile
from bench.performance.proc import (
    Process,
    descendants,
    parse_busy,
    parse_proportional,
    parse_stat,
    proportional,
    resident,
    session_seconds,
)
from bench.performance.results import parse_processor
from bench.performance.wrk import parse

STAT = (
    "4711 (a name) with) S 12 4711 34 0 -1 4194560 8012 99 0 0 250 50 7 3 20 0 5 0 123456 204800000 12000 "
    "18446744073709551615 1 1 0 0 0 0 0 16781312 17666 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)
WRK = """Running 2s test @ http://127.0.0.1:8080/v1/users/me
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.51ms    1.02ms  20.61ms   94.51%
    Req/Sec    12.86k     1.45k   14.35k    80.00%
  25612 requests in 2.00s, 9.01MB read
  Non-2xx or 3xx responses: 12
Requests/sec:  12804.81
Transfer/sec:      4.51MB
{"requests":25612,"seconds":2.0002,"p50":2.310,"p99":6.120,"max":20.610,"refused":12,"broken":1}
"""


def test_a_process_counts_for_its_session_with_the_children_it_waited_for() -> None:
    tick = os.sysconf("SC_CLK_TCK")
    assert parse_stat(STAT) == Process(pid=4711, parent=12, session=34, seconds=310 / tick)


def test_a_session_has_the_time_and_the_memory_of_its_processes() -> None:
    work = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    command = [sys.executable, "-c", work]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert session_seconds(process.pid) == pytest.approx(0.3, abs=0.1)
        assert resident(process.pid) >= proportional(process.pid) > 1
        process.communicate(b"\n")
    assert session_seconds(process.pid) == 0


def test_descendants_are_those_below_at_any_depth() -> None:
    tree = [Process(pid=pid, parent=parent, session=1, seconds=0) for pid, parent in ((2, 1), (3, 2), (4, 3), (5, 1), (6, 9))]
    assert sorted(each.pid for each in descendants(2, tree)) == [3, 4]


def test_a_core_is_busy_with_all_but_waiting() -> None:
    tick = os.sysconf("SC_CLK_TCK")
    #                  user nice system idle  iowait irq softirq steal guest
    text = "cpu  100 20 3 5000 600 4 5 6 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n"
    assert parse_busy(text) == pytest.approx((100 + 20 + 3 + 4 + 5 + 6) / tick)
    with pytest.raises(ValueError, match="intr"):
        parse_busy("intr 1 2 3\n")


def test_shared_memory_is_shared_out() -> None:
    text = "5581-7ffd ---p 00000000 00:00 0 [rollup]\nRss:  40960 kB\nPss:  20480 kB\nPss_Anon:  10240 kB\n"
    assert parse_proportional(text) == 20


def test_the_processor_has_a_name_or_at_least_a_kind() -> None:
    assert parse_processor("processor\t: 0\nmodel name\t: Some CPU @ 2.60GHz\nmodel name\t: another\n") == "Some CPU @ 2.60GHz"
    assert parse_processor("processor: 0\n")


def test_what_wrk_saw_is_found_among_what_it_says() -> None:
    seen = parse(WRK)
    assert (seen.requests, seen.refused, seen.broken, seen.p99) == (25612, 12, 1, 6.12)
    assert seen.served == 25600


@pytest.mark.parametrize("output", ["", "unable to connect to 127.0.0.1:8080 Connection refused\n"])
def test_where_wrk_saw_nothing_that_is_said(output: str) -> None:
    with pytest.raises(BenchError, match="nothing"):
        parse(output)


def test_log_ins_count_when_they_were_answered_in_the_time() -> None:
    storm = Storm.read(
        "[[9.9, 201, 10.0, null], [10.0, 201, 30.0, null], [11.0, 201, 50.0, null], [11.5, 503, 2.0, 1.0],"
        " [11.6, 503, 4.0, null], [11.9, 0, 99.0, null], [12.0, 201, 70.0, null]]"
    )
    assert storm.answers[3] == Answer(11.5, 503, 2.0, 1.0)
    assert storm.between(10, 12) == {
        "log_ins": 2,
        "log_in_rate": 1.0,
        "log_in_p50": 50.0,
        "log_in_p99": 50.0,
        "refused": 2,
        "refused_rate": 1.0,
        "refused_p50": 4.0,
        "refused_p99": 4.0,
        "refused_max": 4.0,
        "without_retry_after": 1,
        "log_ins_broken": 1,
    }


def test_a_quantile_is_one_of_the_values() -> None:
    assert [quantile([1, 2, 3, 4], part) for part in (0, 0.5, 0.99, 1)] == [1, 3, 4, 4]
    assert quantile([], 0.5) == 0
