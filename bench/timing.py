"""Whether the time of an answer tells who has an account.

    python -m bench.timing [--samples 2000] [--only QUESTION] [--quick]

Starts a service with private registration, its usual cost of hashing and no limits, asks it one thing at a time on one
connection, of different accounts in random order, and compares how long the answers took: the Mann–Whitney U test, and the
difference of the medians with a bootstrapped interval. The goal is p > 0.01 and less than 5 ms. Where nothing differs, one
comparison in a hundred misses the first all the same: measure again before you believe it. A private registration takes a
quarter of a second, so a fourth of the samples are taken of it, on four connections.

A whole run takes some eight minutes and keeps its figures in bench/results/timing.json; `python -m tests.support.security_table
--write` puts them into docs/security.md. A quick one, or one of some questions only, keeps nothing.
"""

import argparse
import asyncio
import contextlib
import gc
import http.client
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
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
from pickguard.adapters.argon2 import Argon2Hasher
from pickguard.adapters.engine import Engine, EngineError
from pickguard.domain.model.sessions import TOKEN_SECRET_BYTES, Token
from pickguard.entrypoints.bootstrap import open_services
from pickguard.entrypoints.settings import Settings
from pickguard.ports.hashing import Purpose

RESULTS: Final = FOLDER / "timing.json"
WRONG_PASSWORD: Final = "nobody ever chose this phrase"
CROWD: Final = 100
"""How many accounts of each kind there are, and how many addresses that have none."""
BUSY: Final = 3
"""How many accounts have as many sessions as an account may have."""
SESSIONS: Final = 100
WARMING: Final = 20
QUICK_SAMPLES: Final = 100
REST: Final = 0.006
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
    """What there is to be asked about: addresses by what is behind them, all of one form, and whoever asks."""

    known: Sequence[str]
    busy: Sequence[str]
    unverified: Sequence[str]
    disabled: Sequence[str]
    unknown: Sequence[str]
    fresh: Iterator[str]
    """Addresses without an account, each of them once."""
    token: Token
    wants_free: str = attrs.field(repr=False)
    """The token of somebody whose pending address has no account."""
    wants_taken: str = attrs.field(repr=False)
    """The token of somebody whose pending address is somebody else's."""
    random: Random


@attrs.frozen(kw_only=True)
class Question:
    """One thing that is asked of different accounts. The first case is what the others are compared with."""

    title: str
    cases: Mapping[str, Callable[[Scene], Request]]
    then: Callable[[Scene], Request] | None = None
    """What is sent right after each of these, and timed in their place."""
    rest: float = 0
    """Seconds of silence after each, where work follows the answer: it is none of the next one's."""
    times: float = 1
    """How many times the usual number of samples are taken."""
    clients: int = 1
    """How many connections share the samples and ask side by side."""


def log_in(email: str) -> Request:
    body = {"email": email, "password": WRONG_PASSWORD}
    return Request(method="POST", path="/v1/sessions", status=HTTPStatus.UNAUTHORIZED, body=body)


def ask_reset(email: str) -> Request:
    return Request(method="POST", path="/v1/password-resets", status=HTTPStatus.ACCEPTED, body={"email": email})


def mail_again(token: str) -> Request:
    return Request(method="POST", path="/v1/email-verifications", status=HTTPStatus.ACCEPTED, token=token)


def change_address(email: str, token: str) -> Request:
    body = {"email": email, "current_password": PASSWORD}
    return Request(method="PATCH", path="/v1/users/me", status=HTTPStatus.OK, body=body, token=token)


def register(email: str) -> Request:
    body = {"name": "Ada", "email": email, "password": PASSWORD}
    return Request(method="POST", path="/v1/users", status=HTTPStatus.ACCEPTED, body=body)


def read(token: Token) -> Request:
    return Request(method="GET", path="/v1/users/me", status=HTTPStatus.UNAUTHORIZED, token=token.reveal())


def made_up(scene: Scene) -> Token:
    return attrs.evolve(scene.token, secret=scene.random.randbytes(TOKEN_SECRET_BYTES))


def nearly_right(scene: Scene) -> Token:
    return attrs.evolve(scene.token, secret=scene.token.secret[:-1] + bytes([scene.token.secret[-1] ^ 1]))


RESETS: Final[Mapping[str, Callable[[Scene], Request]]] = {
    "an address without an account": lambda scene: ask_reset(scene.random.choice(scene.unknown)),
    "an account": lambda scene: ask_reset(scene.random.choice(scene.known)),
    "an account that is not verified": lambda scene: ask_reset(scene.random.choice(scene.unverified)),
    "an account that is disabled": lambda scene: ask_reset(scene.random.choice(scene.disabled)),
}

QUESTIONS: Final[Mapping[str, Question]] = {
    "log-in": Question(
        title="A log-in with a wrong password",
        cases={
            "an address without an account": lambda scene: log_in(scene.random.choice(scene.unknown)),
            "an account without a session": lambda scene: log_in(scene.random.choice(scene.known)),
            f"an account with {SESSIONS} sessions": lambda scene: log_in(scene.random.choice(scene.busy)),
            "an account that is not verified": lambda scene: log_in(scene.random.choice(scene.unverified)),
            "an account that is disabled": lambda scene: log_in(scene.random.choice(scene.disabled)),
        },
    ),
    "reset": Question(title="A request for a reset", cases=RESETS, rest=REST),
    "after-reset": Question(
        title="A read right after a request for a reset",
        cases=RESETS,
        then=lambda scene: read(made_up(scene)),
        rest=REST,
        times=0.5,
    ),
    "registration": Question(
        title="A private registration",
        cases={
            "an address without an account": lambda scene: register(next(scene.fresh)),
            "an address with an account": lambda scene: register(scene.random.choice(scene.known)),
        },
        times=0.25,
        clients=4,
    ),
    "change": Question(
        title="A change of address, where registration is private",
        cases={
            "to one without an account": lambda scene: change_address(scene.random.choice(scene.unknown), scene.token.reveal()),
            "to one with an account": lambda scene: change_address(scene.random.choice(scene.known), scene.token.reveal()),
        },
        rest=REST,
        times=0.5,
    ),
    "re-send": Question(
        title="Another mail to a pending address, where registration is private",
        cases={
            "one without an account": lambda scene: mail_again(scene.wants_free),
            "one with an account": lambda scene: mail_again(scene.wants_taken),
        },
        rest=REST,
        times=0.5,
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


@attrs.frozen(kw_only=True)
class Served:
    """A service that runs, and the store that it runs on."""

    port: int
    store: str


@contextmanager
def serving() -> Iterator[Served]:
    """Run a service as it comes, on a store as it brings it along, but for TLS and limits, which would only add to it."""
    every_core = f"0-{(os.cpu_count() or 1) - 1}"
    with tempfile.TemporaryDirectory(prefix="pickguard-timing-") as name, ExitStack() as stack:
        directory, port = Path(name), free_port()
        try:
            store = stack.enter_context(Engine(directory / "store")).url
        except EngineError as error:
            raise BenchError(str(error)) from None
        options = ("--log-level", "info", "--store", store, "--registration", "private", "--mail", "console:")
        service = pickguard(*options, embedded=True)
        command = service.command(Place(port=port, redis_port=0, database=0, directory=directory))
        with running(command, cores=every_core, log=directory / "service.log") as server:
            wait_until_ready(server, port, service.ready)
            yield Served(port=port, store=store)


@contextmanager
def connected(served: Served) -> Iterator[Client]:
    with contextlib.closing(Client(served.port)) as client:
        yield client


async def add_accounts(store: str, *, verified: Iterable[str], unverified: Iterable[str], disabled: Iterable[str]) -> None:
    """Make accounts as an operator does, by the library: all of one password, and of one hash of it."""
    async with Argon2Hasher() as hasher, open_services(Settings(store=store)) as services:
        password_hash = await hasher.hash(PASSWORD, purpose=Purpose.REGISTRATION)
        for emails, is_verified in ((verified, True), (unverified, False)):
            for email in emails:
                await services.imports.add(name="Ada", email=email, password_hash=password_hash, email_verified=is_verified)
        for email in disabled:
            user = await services.imports.add(name="Ada", email=email, password_hash=password_hash, email_verified=True)
            await services.administration.disable(user.id)


def set_the_scene(served: Served, client: Client, random: Random) -> Scene:
    """Make accounts of every kind, of addresses that look alike and are shared out among the kinds by chance."""
    crowd = [f"person-{number:06}@example.com" for number in range(4 * CROWD + BUSY + 3)]
    random.shuffle(crowd)
    known, unverified, disabled, unknown = (crowd[CROWD * kind : CROWD * (kind + 1)] for kind in range(4))
    busy, askers = crowd[4 * CROWD : -3], crowd[-3:]
    asyncio.run(add_accounts(served.store, verified=[*known, *busy, *askers], unverified=unverified, disabled=disabled))

    def token_of(email: str) -> str:
        body = {"email": email, "password": PASSWORD}
        _, answer = client.send(Request(method="POST", path="/v1/sessions", status=HTTPStatus.CREATED, body=body))
        return str(json.loads(answer)["access_token"])

    for email in busy * SESSIONS:
        token_of(email)
    token, wants_free, wants_taken = (token_of(email) for email in askers)
    client.send(change_address(unknown[0], wants_free))
    client.send(change_address(known[0], wants_taken))
    return Scene(
        known=known,
        busy=busy,
        unverified=unverified,
        disabled=disabled,
        unknown=unknown,
        fresh=(f"person-{number:06}@example.com" for number in itertools.count(len(crowd))),
        token=Token.parse(token),
        wants_free=wants_free,
        wants_taken=wants_taken,
        random=random,
    )


def ask(served: Served, scene: Scene, question: Question, samples: int) -> dict[str, list[float]]:
    """Return how long the answers took, in milliseconds, by case, asked by as many clients as the question has."""
    rounds = max(1, samples // question.clients)
    gc.collect()
    gc.disable()
    try:
        with ExitStack() as stack, ThreadPoolExecutor(question.clients) as threads:
            clients = [stack.enter_context(connected(served)) for _ in range(question.clients)]
            taken = list(threads.map(lambda client: ask_by(client, scene, question, rounds), clients))
    finally:
        gc.enable()
    return {case: [each for part in taken for each in part[case]] for case in question.cases}


def ask_by(client: Client, scene: Scene, question: Question, rounds: int) -> dict[str, list[float]]:
    """Ask on one connection: each case once in each round, in random order."""
    taken: dict[str, list[float]] = {case: [] for case in question.cases}
    order = list(question.cases)
    for number in range(-WARMING // question.clients, rounds):
        scene.random.shuffle(order)
        for case in order:
            milliseconds, _ = client.send(question.cases[case](scene))
            if question.then is not None:
                milliseconds, _ = client.send(question.then(scene))
            if number >= 0:
                taken[case].append(milliseconds)
            time.sleep(question.rest)
        if number > 0 and number % max(1, rounds // PARTS) == 0:
            say(f"{question.title}: {number} of {rounds} rounds")
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
    with serving() as served, connected(served) as client:
        say(f"making {CROWD} accounts of each kind, and {BUSY} that log in {SESSIONS} times")
        scene = set_the_scene(served, client, random)
        found = []
        for name in names:
            question = QUESTIONS[name]
            count = max(2, round(samples * question.times))  # deciles take two
            say(f"{question.title}: {count} rounds")
            found.append(judged(question, ask(served, scene, question, count), random))
    return {"circumstances": attrs.asdict(Circumstances.now(began, {})), "questions": found}


if __name__ == "__main__":
    main()
