"""The tables of docs/security.md, made from the tests.

A test that shows a requirement carries ``@pytest.mark.requirement(ROW)``, one that would have found a fault of another system
``@pytest.mark.would_have_caught("NAME")``. Run ``python -m tests.support.security_table`` to see what those and the files in
tests/security come to, with ``--write`` to put it into the page.
"""

import argparse
import ast
import json
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs/security.md"
TESTS: Final = ROOT / "tests"
REQUIREMENTS: Final = TESTS / "security/requirements.toml"
FAULTS: Final = TESTS / "security/faults.toml"
TIMING: Final = ROOT / "bench/results/timing.json"

MET, PARTLY, NOT_MET, NOT_APPLICABLE = "met", "partly", "not met", "not applicable"
REQUIREMENT, WOULD_HAVE_CAUGHT = "requirement", "would_have_caught"
_NOT_RUN = frozenset({"skip", "skipif", "xfail"})


@attrs.frozen(kw_only=True, order=True)
class Test:
    """A test, by the file that it stands in, and what it claims to show."""

    __test__ = False  # pytest would take it for a class of tests

    path: str
    name: str
    marks: tuple[tuple[str, tuple[Any, ...]], ...] = attrs.field(default=(), order=False)

    def claims(self, mark: str) -> list[Any]:
        """Return what the marks of one name hold."""
        return [value for name, values in self.marks if name == mark for value in values]

    @property
    def is_run(self) -> bool:
        """Tell whether it can fail: neither skipped nor expected to fail."""
        return not any(name in _NOT_RUN for name, _ in self.marks)

    @property
    def link(self) -> str:
        """Its name as a sentence, linked to its file as seen from the page."""
        return f"[{self.name.removeprefix('test_').replace('_', ' ')}](../{self.path})"


@attrs.frozen(kw_only=True)
class Requirement:
    """What a standard asks for. `verdict` is None where the tests alone decide."""

    row: int
    ids: str
    text: str
    verdict: str | None = None
    reason: str = ""
    note: str = ""


@attrs.frozen(kw_only=True)
class Fault:
    """A fault that another system had. What is not known of it is left out: the year, for one."""

    name: str
    system: str
    reference: str
    text: str
    year: int | None = None


@attrs.frozen(kw_only=True)
class Evidence:
    """All that the page says, as it was read."""

    requirements: Sequence[Requirement]
    faults: Sequence[Fault]
    tests: Sequence[Test]

    @classmethod
    def read(cls) -> "Evidence":
        """Read the files of this checkout."""
        requirements = tomllib.loads(REQUIREMENTS.read_text())["requirement"]
        faults = tomllib.loads(FAULTS.read_text())
        return cls(
            requirements=[Requirement(**each) for each in requirements],
            faults=[Fault(name=name, **each) for name, each in faults.items()],
            tests=find_tests({str(path.relative_to(ROOT)): path.read_text() for path in sorted(TESTS.rglob("*.py"))}),
        )

    def showing(self, row: int) -> list[Test]:
        """Return the tests that show a requirement."""
        return [test for test in self.tests if row in test.claims(REQUIREMENT)]

    def catching(self, fault: str) -> list[Test]:
        """Return the tests that would have found a fault."""
        return [test for test in self.tests if fault in test.claims(WOULD_HAVE_CAUGHT)]

    def verdict(self, requirement: Requirement) -> str:
        """Return whether a requirement is met: only where a test shows it and nothing is known to be missing."""
        if requirement.verdict is not None:
            return requirement.verdict
        return MET if self.showing(requirement.row) else NOT_MET


def find_tests(sources: Mapping[str, str]) -> list[Test]:
    """Return every test in Python sources, which are read and not run, in the order of path and name.

    A method counts where a class that pytest runs has it or inherits it, so the tests of a contract count once.
    """
    trees = {path: ast.parse(source) for path, source in sources.items()}
    classes = {
        node.name: [_last_name(base) for base in node.bases]
        for tree in trees.values()
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    run = _inherited(classes, {name for name in classes if name.startswith("Test")})
    found: list[Test] = []
    for path, tree in trees.items():
        of_module = _module_marks(tree)
        is_module_of_tests = Path(path).name.startswith("test_")
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name in run:
                of_class = (*of_module, *_marks(node.decorator_list))
                found += [_test(path, each, of_class) for each in node.body if _is_test(each)]
            elif is_module_of_tests and _is_test(node):
                found.append(_test(path, node, of_module))
    return sorted(found)


def _inherited(classes: Mapping[str, Sequence[str]], run: set[str]) -> set[str]:
    """Return the classes that are run, with all that they inherit from."""
    waiting = list(run)
    while waiting:
        for base in classes.get(waiting.pop(), ()):
            if base not in run:
                run.add(base)
                waiting.append(base)
    return run


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_test(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")


def _test(path: str, node: ast.stmt, outer: Iterable[tuple[str, tuple[Any, ...]]]) -> Test:
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return Test(path=path, name=node.name, marks=(*outer, *_marks(node.decorator_list)))


def _module_marks(tree: ast.Module) -> list[tuple[str, tuple[Any, ...]]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and [_last_name(target) for target in node.targets] == ["pytestmark"]:
            listed = node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else [node.value]
            return list(_marks(listed))
    return []


def _marks(nodes: Iterable[ast.expr]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the marks of pytest among expressions, with what they hold where this page is about them."""
    for node in nodes:
        call = node if isinstance(node, ast.Call) else None
        named = node.func if isinstance(node, ast.Call) else node
        if isinstance(named, ast.Attribute) and _last_name(named.value) == "mark":
            ours = named.attr in {REQUIREMENT, WOULD_HAVE_CAUGHT}
            yield named.attr, tuple(ast.literal_eval(arg) for arg in call.args) if call and ours else ()


def complaints(evidence: Evidence) -> list[str]:
    """Say what is not in order: a row that nothing speaks for, a mark that names none, a verdict without its reason."""
    found: list[str] = []
    rows = [each.row for each in evidence.requirements]
    if rows != list(range(1, len(rows) + 1)):
        found.append(f"the rows are not counted from 1 on: {rows}")
    for each in evidence.requirements:
        found += [f"row {each.row} {complaint}" for complaint in _of_row(each, evidence.showing(each.row))]
    known = {fault.name for fault in evidence.faults}
    found += [f"nothing would have caught {name}" for name in sorted(known) if not evidence.catching(name)]
    for test in evidence.tests:
        claimed = [*test.claims(REQUIREMENT), *test.claims(WOULD_HAVE_CAUGHT)]
        found += [
            f"{test.path}: {test.name} names {name!r}, which there is not" for name in claimed if name not in {*rows, *known}
        ]
        found += [f"{test.path}: {test.name} shows nothing: it is not run" for _ in claimed[:1] if not test.is_run]
    return found


def _of_row(each: Requirement, shown_by: Sequence[Test]) -> Iterator[str]:
    if each.verdict not in {None, PARTLY, NOT_MET, NOT_APPLICABLE}:
        yield f"has the verdict {each.verdict!r}; that it is met is for tests to say"
    if each.verdict is None and not shown_by:
        yield "has neither a test nor an honest mark"
    if each.verdict is not None and not each.reason:
        yield f"is called {each.verdict} without a reason"
    if each.verdict is not None and each.note:
        yield "has a note, which is for rows that are met: the reason says why it is not"
    if each.verdict is None and each.reason:
        yield "has a reason and no verdict that it is for"
    if each.verdict == PARTLY and not shown_by:
        yield "is called partly met, and no test shows a part"
    if each.verdict == NOT_MET and shown_by:
        yield f"is called not met, and {shown_by[0].name} shows it: is it partly met?"


def parts(evidence: Evidence, timing: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what is made of the page, by the names of its marks."""
    return {
        "requirements": requirements_table(evidence),
        "verdicts": verdicts(evidence),
        "faults": faults_table(evidence),
        "timing": timing_table(timing),
    }


def verdicts(evidence: Evidence) -> str:
    """Return how many rows have each verdict, in a sentence."""
    counts: defaultdict[str, list[int]] = defaultdict(list)
    for each in evidence.requirements:
        counts[evidence.verdict(each)].append(each.row)
    shown = [
        f"{len(counts[verdict])} {verdict}" + (f" ({_listed(counts[verdict])})" if verdict != MET else "")
        for verdict in (MET, PARTLY, NOT_MET, NOT_APPLICABLE)
        if counts[verdict]
    ]
    tests = {(test.path, test.name) for test in evidence.tests if test.claims(REQUIREMENT)}
    return f"Of {len(evidence.requirements)} rows: {'; '.join(shown)}. {len(tests)} tests stand behind them.\n"


def _listed(rows: Iterable[int]) -> str:
    return ", ".join(str(row) for row in rows)


def requirements_table(evidence: Evidence) -> str:
    lines = ["| # | Where it stands | What is asked for | Verdict | Shown by |", "| ---: | --- | --- | --- | --- |"]
    for each in evidence.requirements:
        verdict = evidence.verdict(each)
        said = ". ".join(part for part in (f"**{verdict}**", each.reason or each.note) if part)
        lines.append(f"| {each.row} | {each.ids} | {each.text} | {said} | {_links(evidence.showing(each.row))} |")
    return _text(lines)


def faults_table(evidence: Evidence) -> str:
    lines = ["| Year | System | What went wrong | Told in | Caught here by |", "| --- | --- | --- | --- | --- |"]
    for each in sorted(evidence.faults, key=lambda fault: (-(fault.year or 0), fault.name)):
        links = _links(evidence.catching(each.name))
        lines.append(f"| {each.year or '–'} | {each.system} | {each.text} | {each.reference} | {links} |")
    return _text(lines)


def _links(tests: Sequence[Test]) -> str:
    return "<br>".join(test.link for test in tests) or "–"


def timing_table(timing: Mapping[str, Any] | None) -> str:
    """Return the figures that `python -m bench.timing` has kept."""
    if timing is None:
        return "Not measured yet: `python -m bench.timing` does it.\n"
    about = timing["circumstances"]
    lines = [
        "| What is asked | Of whom | Samples | Median, ms | Difference, ms | Its 95 % interval | p | Verdict |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for question in timing["questions"]:
        for variant in question["variants"]:
            shown = ["–", "–", "–", "the one to compare with"]
            if found := variant.get("compared"):
                interval = f"{found['low_ms']:+.3f} to {found['high_ms']:+.3f}"
                verdict = "alike" if found["alike"] else "**can be told apart**"
                shown = [f"{found['difference_ms']:+.3f}", interval, f"{found['p']:.3f}", verdict]
            cells = [question["title"], variant["title"], f"{variant['samples']:,}", f"{variant['median_ms']:.3f}", *shown]
            lines.append(f"| {' | '.join(cells)} |")
    when = f"{about['began'][:10]} at {about['began'][11:16]} UTC"
    lines += ["", f"Measured on {when}, commit {about['commit']}, {about['cores']} cores of {about['processor']}."]
    return _text(lines)


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def fill(page: str, made: Mapping[str, str]) -> str:
    """Put each part between its two marks. A part without marks is an error: it would be lost."""
    for name, part in made.items():
        first, last = f"<!-- {name}: made by python -m tests.support.security_table -->\n", f"<!-- {name}: end -->"
        before, first_found, rest = page.partition(first)
        _, last_found, after = rest.partition(last)
        if not (first_found and last_found):
            raise ValueError(f"there is no place for {name}")
        page = f"{before}{first}\n{part}\n{last}{after}"
    return page


def made_page(evidence: Evidence) -> str:
    """Return the page as it should be."""
    timing = json.loads(TIMING.read_text()) if TIMING.exists() else None
    return fill(PAGE.read_text(), parts(evidence, timing))


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.support.security_table", description=__doc__)
    options.add_argument("--write", action="store_true", help="put the tables into docs/security.md")
    given = options.parse_args()
    evidence = Evidence.read()
    if wrong := complaints(evidence):
        raise SystemExit("\n".join(wrong))
    page = made_page(evidence)
    if given.write:
        PAGE.write_text(page)
    else:
        sys.stdout.write(page)


if __name__ == "__main__":
    main()
