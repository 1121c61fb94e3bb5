"""Whether the time of an answer tells who has an account.

    python -m bench.timing [--samples 2000] [--only QUESTION] [--quick]

Starts a service with its usual cost of hashing and without limits, asks it one thing at a time on one connection, of
different accounts in random order, and compares how long the answers took: the Mann–Whitney U test, and the difference of
the medians with a bootstrapped interval. The goal is p > 0.01 and less than 5 ms. Where nothing differs, one comparison in a
hundred misses the first all the same: measure again before you believe it.

A whole run takes some minutes and keeps its figures in bench/results/timing.json; `python -m tests.support.security_table
--write` puts them into docs/security.md. A quick one, or one of some questions only, keeps nothing.
"""

import argparse
import contextlib
import gc
import http.client
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from random import Random
from typing import Any, Final

import attrs

from bench.comparison import Comparison
from bench.performance.errors import BenchError
from bench.performance.page import table
from bench.performance.results import FOLDER, Circumstances
from bench.performance.servers import free_port, need, running, wait_until_ready
from bench.performance.services import PASSWORD, Place, pickguard
from bench.performance.telling import say
from pickguard.domain.model.sessions import TOKEN_SECRET_BYTES, Token

RESULTS: Final = FOLDER / "timing.json"
WRONG_PASSWORD: Final = "nobody ever chose this phrase"
CROWD: Final = 100
"""How many accounts there are, and how many addresses that have none."""
BUSY: Final = 3
"""How many of the accounts have as many sessions as an account may have."""
SESSIONS: Final = 100
WARMING: Final = 20
QUICK_SAMPLES: Final = 100
PARTS: Final = 5
"""How often it is said how far a question is."""


@attrs.frozen(kw_only=True)
class Request:
    """One request, and the status that every answer to it must have."""

    method: str
    path: str
    status: int
    body: Mapping[str, str] | None = None
    token: str | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class Scene:
    """What there is to be asked about."""

    known: Sequence[str]
    busy: Sequence[str]
    unknown: Sequence[str]
    token: Token
    random: Random


@attrs.frozen(kw_only=True)
class Question:
    """One thing that is asked of different accounts. The first case is what the others are compared with."""

    title: str
    cases: Mapping[str, Callable[[Scene], Request]]
    times: int = 1
    """How many times the usual number of samples are taken, of what is quickly answered."""


def log_in(email: str) -> Request:
    body = {"email": email, "password": WRONG_PASSWORD}
    return Request(method="POST", path="/v1/sessions", status=HTTPStatus.UNAUTHORIZED, body=body)


def read(token: Token) -> Request:
    return Request(method="GET", path="/v1/users/me", status=HTTPStatus.UNAUTHORIZED, token=token.reveal())


def made_up(scene: Scene) -> Token:
    return attrs.evolve(scene.token, secret=scene.random.randbytes(TOKEN_SECRET_BYTES))


def nearly_right(scene: Scene) -> Token:
    return attrs.evolve(scene.token, secret=scene.token.secret[:-1] + bytes([scene.token.secret[-1] ^ 1]))


QUESTIONS: Final[Mapping[str, Question]] = {
    "log-in": Question(
        title="A log-in with a wrong password",
        cases={
            "an address without an account": lambda scene: log_in(scene.random.choice(scene.unknown)),
            "an account without a session": lambda scene: log_in(scene.random.choice(scene.known)),
            f"an account with {SESSIONS} sessions": lambda scene: log_in(scene.random.choice(scene.busy)),
        },
    ),
    "token": Question(
        title="A read with a token that opens nothing",
        cases={
            "a secret that was made up": lambda scene: read(made_up(scene)),
            "31 of 32 bytes of a right one": lambda scene: read(nearly_right(scene)),
        },
        times=2,
    ),
}
"""What is asked. A case is a function of the scene: another kind of account, or another request, is one more entry."""


class Client:
    """One connection, on which one request is sent after the other."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def close(self) -> None:
        self._connection.close()

    def send(self, request: Request) -> tuple[float, bytes]:
        """Return the milliseconds that an answer took, and its body. Raises `BenchError` where it is another one."""
        headers = {"Content-Type": "application/json"} if request.body is not None else {}
        if request.token is not None:
            headers["Authorization"] = f"Bearer {request.token}"
        body = None if request.body is None else json.dumps(request.body)
        began = time.perf_counter_ns()
        self._connection.request(request.method, request.path, body=body, headers=headers)
        answer = self._connection.getresponse()
        content = answer.read()
        taken = time.perf_counter_ns() - began
        if answer.status != request.status:
            raise BenchError(f"{request.method} {request.path} was answered with {answer.status}, not {request.status}")
        return taken / 1e6, content


@contextmanager
def serving() -> Iterator[Client]:
    """Run a service as it comes, but for TLS and limits, which would only add to what is measured."""
    service = pickguard("--log-level", "info", embedded=True)
    every_core = f"0-{(os.cpu_count() or 1) - 1}"
    with tempfile.TemporaryDirectory(prefix="pickguard-timing-") as name:
        directory, port = Path(name), free_port()
        command = service.command(Place(port=port, redis_port=0, database=0, directory=directory))
        with running(command, cores=every_core, log=directory / "service.log") as server:
            wait_until_ready(server, port, service.ready)
            with contextlib.closing(Client(port)) as client:
                yield client


def set_the_scene(client: Client, random: Random) -> Scene:
    """Register one half of a crowd of addresses that look alike."""
    crowd = [f"person-{number:04}@example.com" for number in range(2 * CROWD)]
    random.shuffle(crowd)
    registered, unknown = crowd[:CROWD], crowd[CROWD:]
    busy, known = registered[:BUSY], registered[BUSY:]
    for email in registered:
        body = {"name": "Ada", "email": email, "password": PASSWORD}
        client.send(Request(method="POST", path="/v1/users", status=HTTPStatus.CREATED, body=body))
    answer = b""
    for email in busy * SESSIONS:
        body = {"email": email, "password": PASSWORD}
        _, answer = client.send(Request(method="POST", path="/v1/sessions", status=HTTPStatus.CREATED, body=body))
    token = Token.parse(json.loads(answer)["access_token"])
    return Scene(known=known, busy=busy, unknown=unknown, token=token, random=random)


def ask(client: Client, scene: Scene, question: Question, samples: int) -> dict[str, list[float]]:
    """Return how long the answers took, in milliseconds, by case: each case once in each round, in random order."""
    taken: dict[str, list[float]] = {case: [] for case in question.cases}
    order = list(question.cases)
    gc.collect()
    gc.disable()
    try:
        for number in range(-WARMING, samples):
            scene.random.shuffle(order)
            for case in order:
                milliseconds, _ = client.send(question.cases[case](scene))
                if number >= 0:
                    taken[case].append(milliseconds)
            if number > 0 and number % max(1, samples // PARTS) == 0:
                say(f"{question.title}: {number} of {samples} rounds")
    finally:
        gc.enable()
    return taken


def judged(question: Question, taken: Mapping[str, Sequence[float]], random: Random) -> dict[str, Any]:
    """Return a question's figures as they are kept."""
    reference, *_ = taken
    variants = []
    for case, times in taken.items():
        variant: dict[str, Any] = {
            "title": case,
            "samples": len(times),
            "median_ms": rounded(statistics.median(times)),
            "deciles_ms": [rounded(each) for each in statistics.quantiles(times, n=10)],
        }
        if case != reference:
            found = Comparison.of(times, taken[reference], random)
            variant["compared"] = {
                "difference_ms": rounded(found.difference),
                "low_ms": rounded(found.low),
                "high_ms": rounded(found.high),
                "p": float(f"{found.p:.4g}"),
                "alike": found.alike,
            }
        variants.append(variant)
    return {"title": question.title, "variants": variants}


def rounded(milliseconds: float) -> float:
    return round(milliseconds, 4)


def shown(questions: Sequence[Mapping[str, Any]]) -> str:
    """Return the figures as a table for a person."""
    head = ("", "samples", "median, ms", "difference, ms", "95 % interval", "p", "verdict")
    body: list[Sequence[str]] = []
    for question in questions:
        for variant in question["variants"]:
            cells = ["–", "–", "–", "–"]
            if found := variant.get("compared"):
                interval = f"{found['low_ms']:+.3f} to {found['high_ms']:+.3f}"
                verdict = "alike" if found["alike"] else "CAN BE TOLD APART"
                cells = [f"{found['difference_ms']:+.3f}", interval, f"{found['p']:.3f}", verdict]
            title = f"{question['title']}: {variant['title']}"
            body.append((title, f"{variant['samples']:,}", f"{variant['median_ms']:.3f}", *cells))
    return table(head, body)


def tell_apart(questions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the questions whose answers can be told apart."""
    return [
        question["title"]
        for question in questions
        if not all(variant["compared"]["alike"] for variant in question["variants"] if "compared" in variant)
    ]


def main() -> None:
    options = argparse.ArgumentParser(
        prog="python -m bench.timing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--samples", type=int, default=2000, help="how often each case is asked; 2000 if not given")
    options.add_argument("--only", action="append", choices=list(QUESTIONS), metavar="QUESTION", help=", ".join(QUESTIONS))
    options.add_argument("--quick", action="store_true", help=f"{QUICK_SAMPLES} samples: to try it out")
    given = options.parse_args()
    samples = QUICK_SAMPLES if given.quick else given.samples
    if samples < 2:  # noqa: PLR2004 (deciles take two)
        options.error("--samples takes 2 at least")
    try:
        results = measure(given.only or list(QUESTIONS), samples)
    except BenchError as error:
        raise SystemExit(f"timing: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("timing: interrupted; the service is stopped, and nothing is kept") from None
    print(shown(results["questions"]))
    if not (given.quick or given.only):
        RESULTS.write_text(f"{json.dumps(results, indent=1, ensure_ascii=False)}\n")
        say("the figures are kept: `python -m tests.support.security_table --write` puts them into docs/security.md")
    if found := tell_apart(results["questions"]):
        raise SystemExit(f"timing: answers can be told apart: {', '.join(found)}. Measure again to see whether that was chance")


def measure(names: Sequence[str], samples: int) -> dict[str, Any]:
    """Ask these questions of a service, and return what is kept of it."""
    need("taskset")
    began, random = datetime.now(UTC), Random()
    with serving() as client:
        say(f"registering {CROWD} people, {BUSY} of whom log in {SESSIONS} times")
        scene = set_the_scene(client, random)
        found = []
        for name in names:
            question = QUESTIONS[name]
            say(f"{question.title}: {samples * question.times} rounds")
            found.append(judged(question, ask(client, scene, question, samples * question.times), random))
    return {"circumstances": attrs.asdict(Circumstances.now(began, {})), "questions": found}


if __name__ == "__main__":
    main()
