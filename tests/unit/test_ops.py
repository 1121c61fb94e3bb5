"""The dashboard and the alerts ask for what the service exports, and promtool takes them and proves them."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from pickguard.adapters.telemetry.board import Kind
from pickguard.adapters.telemetry.exposition import BoardCollector
from tests.support.telemetry import Measured

ROOT: Final = Path(__file__).parents[2]
ALERTS: Final = ROOT / "ops/prometheus/alerts.yml"
PROOFS: Final = ROOT / "ops/prometheus/alerts_test.yml"
DASHBOARD: Final = json.loads((ROOT / "ops/grafana/pickguard.json").read_text())
GUIDE: Final = (ROOT / "docs/monitoring.md").read_text()

promtool: Final = shutil.which("promtool")
if promtool is None and os.environ.get("CI") == "true":
    raise RuntimeError("CI proves the alerts with promtool, and there is none on the PATH; .ci/run installs it")
needs_promtool = pytest.mark.skipif(promtool is None, reason="the alerts are proved with promtool")

ADDED_BY_PROMETHEUS: Final = {"job", "instance"}
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTOR = re.compile(r"\b([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^{}]*)\}|\b((?:pickguard|process)_[a-zA-Z0-9_:]+)\b")
_MATCHER = re.compile(r'([a-zA-Z_]\w*)(=~|!~|!=|=)"((?:[^"\\]|\\.)*)"')
_BY = re.compile(r"\bby \(([^)]*)\)")


def exported() -> dict[str, dict[str, set[str]]]:
    """Return every series name that a scrape can have, with its labels and all values that these can have."""
    measured = Measured()
    measured.metrics.is_run_by(os.getpid())
    found: dict[str, dict[str, set[str]]] = {"up": {}}
    for family in measured.board.families:
        labels = {label: {series[at] for series in family.series} for at, label in enumerate(family.labels)}
        if family.kind is Kind.HISTOGRAM:
            found[f"{family.name}_bucket"] = {**labels, "le": {*map(str, family.bounds), "+Inf"}}
            found[f"{family.name}_count"] = found[f"{family.name}_sum"] = labels
        else:
            found[family.name] = labels
    for metric in BoardCollector(measured.board).collect():
        for sample in metric.samples:
            known = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                known.setdefault(label, set()).add(value)
    del found["pickguard_worker_pid"]
    return found


EXPORTED: Final = exported()


def check_expression(text: str) -> set[str]:
    """Assert that an expression asks for what there is; return the names of its metrics."""
    names: set[str] = set()
    for name, matchers, bare in _SELECTOR.findall(text):
        series = name or bare
        assert series in EXPORTED, f"{series} is not exported: {text}"
        names.add(series)
        known = EXPORTED[series]
        for label, operator, value in _MATCHER.findall(matchers):
            if label in ADDED_BY_PROMETHEUS:
                continue
            assert label in known, f"{series} has no label {label}: {text}"
            if not value.startswith("$"):
                _check_value(known[label], operator, value, text)
    assert names, text
    for labels in _BY.findall(_STRING.sub('""', text)):
        for label in filter(None, (each.strip() for each in labels.split(","))):
            assert label in ADDED_BY_PROMETHEUS or any(label in EXPORTED[name] for name in names), f"{label}: {text}"
    return names


def _check_value(values: set[str], operator: str, value: str, text: str) -> None:
    if operator in {"=~", "!~"}:
        for part in value.split("|"):
            assert any(re.fullmatch(part, each) for each in values), f"{part} matches nothing: {text}"
    else:
        assert value in values, f"{value} is no value: {text}"


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return list(DASHBOARD["panels"])


def expressions() -> Iterator[str]:
    for panel in panels():
        for target in panel.get("targets", []):
            yield target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["expr"]


def run_promtool(*args: str, cwd: Path) -> None:
    assert promtool is not None
    done = subprocess.run([promtool, *args], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# Alerts.


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_is_exported_and_is_explained(rule: dict[str, Any]) -> None:
    check_expression(rule["expr"])
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(rule["annotations"]) == {"summary", "description"}
    assert f"| `{rule['alert']}` |" in GUIDE, "docs/monitoring.md says what to do"


def test_the_guide_explains_no_alert_that_there_is_not() -> None:
    assert set(re.findall(r"^\| `(Pickguard\w+)` \|", GUIDE, re.MULTILINE)) == {rule["alert"] for rule in rules()}


def test_every_alert_is_proved_to_fire_and_to_keep_quiet() -> None:
    proofs = [proof for test in yaml.safe_load(PROOFS.read_text())["tests"] for proof in test["alert_rule_test"]]
    names = {rule["alert"] for rule in rules()}
    assert {proof["alertname"] for proof in proofs if proof.get("exp_alerts")} == names
    assert {proof["alertname"] for proof in proofs if not proof.get("exp_alerts")} == names


def test_the_proofs_are_about_series_that_are_exported() -> None:
    for test in yaml.safe_load(PROOFS.read_text())["tests"]:
        for each in test["input_series"]:
            if 'le="' not in each["series"]:
                check_expression(each["series"])


@needs_promtool
def test_promtool_takes_the_alerts_and_proves_them() -> None:
    run_promtool("check", "rules", ALERTS.name, cwd=ALERTS.parent)
    run_promtool("test", "rules", PROOFS.name, cwd=ALERTS.parent)


def test_the_guide_names_every_metric_with_its_labels() -> None:
    rows = dict(re.findall(r"^\| `(pickguard_\w+)` \| ([^|]*?)\|", GUIDE, re.MULTILINE))
    measured = Measured()
    families = {each.name: each.labels for each in measured.board.families if each.name != "pickguard_worker_pid"}
    assert {name: tuple(re.findall(r"`(\w+)`", labels)) for name, labels in rows.items()} == {
        **families,
        "pickguard_workers": (),
        "pickguard_build_info": ("version", "python", "implementation"),
    }


# The dashboard.


@pytest.mark.parametrize("expression", list(expressions()))
def test_a_panel_asks_for_what_is_exported(expression: str) -> None:
    check_expression(expression)


@needs_promtool
def test_every_expression_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    made = [
        {"record": f"panel:{number}", "expr": re.sub(r"\$__(rate_)?interval", "5m", expression)}
        for number, expression in enumerate(expressions())
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": made}]}))
    run_promtool("check", "rules", "rules.yml", cwd=tmp_path)


def test_every_metric_of_the_service_is_on_the_dashboard() -> None:
    shown = set().union(*(check_expression(expression) for expression in expressions()))
    for name in EXPORTED:
        if name.startswith("pickguard_"):
            whole = name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
            assert {name, whole, f"{whole}_bucket", f"{whole}_count"} & shown, f"nobody looks at {name}"


def test_panels_have_ids_of_their_own_and_a_data_source_that_can_be_chosen() -> None:
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for panel in panels():
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert panel["description"].endswith(".")
        for source in (panel, *panel["targets"]):
            assert source["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs) > 0
        for target in panel["targets"]:
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= {*variables, "__rate_interval"}


def test_no_two_panels_lie_on_each_other() -> None:
    for panel in panels():
        at = panel["gridPos"]
        assert 0 <= at["x"] < at["x"] + at["w"] <= 24
    for one, other in combinations(panels(), 2):
        assert not _overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in (("x", "w"), ("y", "h")))


# The check itself.


@pytest.mark.parametrize(
    "wrong",
    [
        "rate(pickguard_nothing_total[5m])",
        'sum(rate(pickguard_log_ins_total{outcome="maybe"}[5m]))',
        'pickguard_log_ins_total{result="success"}',
        'pickguard_http_requests_total{status=~"6.."}',
        "sum by (user) (pickguard_hash_queue_depth)",
        "vector(1)",
    ],
)
def test_an_expression_that_asks_for_what_is_not_there_is_found(wrong: str) -> None:
    with pytest.raises(AssertionError):
        check_expression(wrong)
