"""Prometheus' configuration, the rules for alerts and Grafana's dashboard, against what a run exports."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from brokers import MOSQUITTO, free_port, mosquitto
from deployment.image import DEPLOYMENT
from prometheus_client.parser import text_string_to_metric_families
from services import config, eventually, get, service

from streamrde.runtime.exposition import Exposition
from streamrde.runtime.metrics import Metrics
from streamrde.runtime.partitions import GroupMetrics, PartitionMetrics

ALERTS = DEPLOYMENT / "alerts.yml"
DASHBOARD = json.loads((DEPLOYMENT / "grafana" / "streamrde.json").read_text("utf-8"))
RULES = [rule for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]]
EXPRESSIONS = {
    **{rule["alert"]: rule["expr"] for rule in RULES},
    **{
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    },
}
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus"
)


def promtool(*arguments):
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def names_and_labels(text):
    """Each sample's name with the labels that it has."""
    families = list(text_string_to_metric_families(text))
    names = {family.name: set() for family in families}
    for family in families:
        suffix = "_total" if family.type == "counter" else ""
        names.setdefault(family.name + suffix, set())
        for sample in family.samples:
            names.setdefault(sample.name, set()).update(sample.labels)
    return names


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Names and labels of the metrics of a run on MQTT, and of a worker that shares partitions."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    folder, port = tmp_path_factory.mktemp("run"), free_port()
    with mosquitto(folder) as url, service(config(folder, url, port)) as process:
        eventually(lambda: get(port, "/readyz")[0] == 200, process)
        alone = names_and_labels(get(port, "/metrics")[1])
    group = GroupMetrics(partitions={("t", 0): PartitionMetrics("t", 0)})
    shared = names_and_labels(Exposition(Metrics(), connections={}, group=group).text().decode())
    return shared | alone


def used(expression):
    return set(
        re.findall(r"\b(?:streamrde_\w+|up)\b(?=[{\[\s)]|$)", expression.replace("$job", "").replace("$inst", ""))
    )


@pytest.mark.parametrize("title", EXPRESSIONS)
def test_every_metric_is_one_that_a_run_exports(title, exported):
    metrics = used(EXPRESSIONS[title])
    assert metrics
    assert metrics <= {"up", *exported}


@pytest.mark.parametrize("title", EXPRESSIONS)
def test_grouping_and_legends_use_labels_that_the_metrics_have(title, exported):
    expression = EXPRESSIONS[title]
    grouped = {label.strip() for by in re.findall(r"by \(([^)]*)\)", expression) for label in by.split(",")}
    known = {"job", "instance", "le"}.union(*(exported.get(name, set()) for name in used(expression)))
    assert grouped <= known


def stem(name):
    return re.sub(r"_(total|bucket|sum|count|created)$", "", name)


def test_every_metric_of_a_run_is_shown_or_watched(exported):
    seen = {stem(name) for expression in EXPRESSIONS.values() for name in used(expression)}
    left_out = {"streamrde_batches", "streamrde_model_swaps", "streamrde_partition_restore_bytes"}
    assert {stem(name) for name in exported} - seen == left_out


@needs_promtool
def test_promtool_accepts_the_configuration_and_the_rules():
    assert "SUCCESS" in promtool("check", "config", DEPLOYMENT / "prometheus.yml")
    assert f"{len(RULES)} rules found" in promtool("check", "rules", "--lint-fatal", ALERTS)


@needs_promtool
def test_the_alerts_fire_when_they_should(tmp_path):
    text = Path(__file__).with_name("alerts_test.yml").read_text("utf-8")
    (tmp_path / "test.yml").write_text(text.replace("ALERTS", str(ALERTS)))
    promtool("test", "rules", tmp_path / "test.yml")
    tested = {
        one["alertname"]
        for group in yaml.safe_load(text)["tests"]
        for one in group["alert_rule_test"]
        if one.get("exp_alerts")
    }
    assert tested == {rule["alert"] for rule in RULES}


@needs_promtool
def test_the_dashboards_expressions_are_promql(tmp_path):
    rules = [
        {
            "record": f"r{number}",
            "expr": re.sub(r"\$__rate_interval", "5m", re.sub(r"\$(job|instance)", "x", expression)),
        }
        for number, expression in enumerate(EXPRESSIONS.values())
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", tmp_path / "rules.yml")


def test_the_panels_have_places_and_sources_of_their_own():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(panels))) - {"__rate_interval"} <= variables


def test_the_provisioned_source_is_the_dashboards():
    (source,) = yaml.safe_load((DEPLOYMENT / "grafana" / "datasource.yml").read_text("utf-8"))["datasources"]
    (variable,) = [one for one in DASHBOARD["templating"]["list"] if one["type"] == "datasource"]
    assert variable["query"] == source["type"]
    assert variable["current"]["value"] == source["uid"]
    (provider,) = yaml.safe_load((DEPLOYMENT / "grafana" / "dashboards.yml").read_text("utf-8"))["providers"]
    services = yaml.safe_load((DEPLOYMENT / "compose.yaml").read_text("utf-8"))["services"]
    targets = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/streamrde.json" in targets
