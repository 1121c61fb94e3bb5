"""What is installed here, as the metadata of packages tells it."""

from importlib.metadata import distribution, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed_by(name: str, *, extras: frozenset[str] | set[str] = frozenset()) -> set[str]:
    """Return the names of all packages that a package with these extras needs on this interpreter, without itself."""
    found: set[tuple[str, str]] = set()
    _follow(canonicalize_name(name), extras, found)
    return {each for each, _ in found} - {canonicalize_name(name)}


def _follow(name: str, extras: frozenset[str] | set[str], found: set[tuple[str, str]]) -> None:
    # Where no extra is asked for, markers see an empty one.
    for extra in {"", *extras}:
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for text in requires(name) or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                distribution(needed.name)  # a locked package that is not installed would go unnoticed
                _follow(canonicalize_name(needed.name), needed.extras, found)
