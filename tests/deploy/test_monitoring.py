"""Prometheus' rules and Grafana's dashboard: valid, tested, and about metrics that the service has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.test_project import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = [rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "penumbra.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
# What Grafana puts in the place of its variables.
_VARIABLES = {"$__rate_interval": "1m", "$__interval": "1m", "$instance": ".*", "$model": ".*"}
# Labels that Prometheus adds.
_ADDED = {"instance", "job", "le"}

with_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool here")


def promtool(*arguments: str | Path) -> str:
    """What promtool says."""
    done = subprocess.run(["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@with_promtool
def test_the_configuration_is_valid() -> None:
    """Prometheus would start with it."""
    assert "SUCCESS" in promtool("check", "config", "--syntax-only", "prometheus.yml")


@with_promtool
def test_every_alert_fires_for_its_cause() -> None:
    """And for less it does not."""
    assert "SUCCESS" in promtool("test", "rules", "rules.test.yml")


def test_every_alert_is_tested_and_explained() -> None:
    """By rules.test.yml, and by a section of docs/operations.md under its name."""
    tested = {
        test["alertname"]
        for case in yaml.safe_load((PROMETHEUS / "rules.test.yml").read_text())["tests"]
        for test in case["alert_rule_test"]
        if test["exp_alerts"]
    }
    explained = set(re.findall(r"^#+ (Penumbra\w+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE))
    assert tested == explained == {rule["alert"] for rule in RULES}
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"


@with_promtool
def test_every_query_of_the_dashboard_can_be_read(tmp_path: Path) -> None:
    """Prometheus' own parser takes each of them."""
    queries = list(QUERIES)
    for name, value in _VARIABLES.items():
        queries = [query.replace(name, value) for query in queries]
    rules = [{"record": f"query:{place}", "expr": query} for place, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(queries)} rules found" in promtool("check", "rules", tmp_path / "rules.yml")


def test_the_dashboard_is_whole() -> None:
    """Panels have a number and a place of their own and ask the data source that is provisioned."""
    datasources = ROOT / "deploy" / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
    (source,) = yaml.safe_load(datasources.read_text())["datasources"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    covered: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not covered & cells, panel["title"]
        covered |= cells
    for panel in PANELS:
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]


@pytest.mark.parametrize("query", [*(rule["expr"] for rule in RULES), *QUERIES])
def test_queries_are_about_metrics_that_exist(query: str) -> None:
    """Each name is one of the service's, and asked for labels that it has."""
    families = pytest.importorskip("service.telemetry.catalogue").FAMILIES
    labels: dict[str, set[str]] = {}
    for family in families:
        ends = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
        labels |= {family.name + end: {*family.labels} for end in ends}
    found = re.findall(r"\b(penumbra_\w+|up)\b(?:\{([^}]*)\})?", re.sub(r'"[^"]*"', '""', query))
    assert found
    for name, selector in found:
        assert name == "up" or name in labels, name
        assert set(re.findall(r"(\w+)\s*[=!]", selector)) <= labels.get(name, set()) | _ADDED
    grouped = {label for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for label in group.split(", ")}
    assert grouped <= set.union(*(labels.get(name, set()) for name, _ in found)) | _ADDED
