"""The steps of a measurement. Each gives rounds in which its variants had their turn, one after the other."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from bench.performance.figures import Step
from bench.performance.services import pickguard
from bench.performance.stage import People, Stage, show_reads

WARM_UP_SECONDS: Final = 1


def read(stage: Stage, people: People) -> Step:
    """An authenticated read, beside the ceiling with and without a GET from Redis."""
    service = pickguard()
    with stage.serving_ceiling(people) as ceiling, stage.serving(service) as served:
        floods = {
            "ceiling": (ceiling, ceiling.flood("/json", people)),
            "pickguard": (served, served.flood(service.read, people)),
            "get": (ceiling, ceiling.flood("/get", people)),
            "mget": (ceiling, ceiling.flood("/mget", people)),
        }
        for _, flood in floods.values():
            flood.run(WARM_UP_SECONDS, core=stage.second)
        variants = {name: partial(stage.reads, server, flood) for name, (server, flood) in floods.items()}
        return stage.rounds("an authenticated read", stage.pace.rounds, variants, show_reads)


STEPS: Final[Mapping[str, Callable[[Stage, People], Step]]] = {"read": read}
