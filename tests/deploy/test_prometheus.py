"""Alerts fire when they should and only then, and read series that the service exports."""

import re
import subprocess
from pathlib import Path

import httpx
import yaml

from api.errors import fault_reasons, refusal_reasons
from lab.server import ROOT, Server
from tests.deploy.promql import DEPLOY, RULES, alerts, known_names, label_values, names, rules

PROMETHEUS = DEPLOY / "prometheus"
CASES = PROMETHEUS / "tests" / "embedding-api.yml"


def promtool(*arguments: str | Path) -> None:
    ended = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_prometheus_accepts_the_configuration_and_the_rules() -> None:
    promtool("check", "config", PROMETHEUS / "prometheus.yml")
    promtool("check", "rules", "--lint=all", "--lint-fatal", *RULES.glob("*.yml"))


def test_prometheus_accepts_the_lines_of_the_runbook_for_an_alertmanager(tmp_path: Path) -> None:
    [lines] = re.findall(
        r"```yaml\n(alerting:.*?)```", (DEPLOY / "RUNBOOK.md").read_text(), re.DOTALL
    )
    config = tmp_path / "prometheus.yml"
    config.write_text(
        (PROMETHEUS / "prometheus.yml").read_text().replace("rules/", f"{RULES}/") + lines
    )
    promtool("check", "config", config)


def test_the_only_list_of_routes_has_every_route_for_vectors(origin: Server) -> None:
    """It is in a recorded series that alerts and the dashboard read. Files and batches are not."""
    lists = [routes for rule in rules() if len(routes := label_values(rule["expr"], "route")) > 1]
    paths = httpx.get(f"{origin.url}/openapi.json").json()["paths"]
    posts = {path for path, methods in paths.items() if "post" in methods}
    of_batches = {path for path in posts if path.startswith(("/v1/files", "/v1/batches"))}
    assert of_batches
    assert lists == [posts - of_batches]


def test_alerts_fire_in_their_cases_and_not_in_similar_ones() -> None:
    promtool("test", "rules", CASES)


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    checks = [
        check
        for case in yaml.safe_load(CASES.read_text())["tests"]
        for check in case["alert_rule_test"]
    ]
    assert {check["alertname"] for check in checks if check["exp_alerts"]} == alerts().keys()
    assert {check["alertname"] for check in checks if not check["exp_alerts"]} == alerts().keys()


def test_rules_read_series_that_exist() -> None:
    for rule in rules():
        assert names(rule["expr"]) <= known_names(), rule


def test_rules_name_reasons_that_exist() -> None:
    given = fault_reasons() | refusal_reasons()
    for rule in rules():
        assert label_values(rule["expr"], "reason") <= given, rule


def test_an_alert_has_a_severity_a_summary_and_a_link_to_the_runbook() -> None:
    for name, alert in alerts().items():
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["annotations"]["runbook_url"] == f"RUNBOOK.md#{name.lower()}"
        assert alert["annotations"]["summary"]


def test_the_memory_limit_of_alerts_is_that_of_the_compose_file() -> None:
    [limit] = [rule["expr"] for rule in rules() if rule.get("record") == "embed:memory_limit:bytes"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    given = compose["services"]["embedding-api"]["mem_limit"]
    assert given == f"${{MEMORY:-{limit.removesuffix(' * 1024 ^ 3')}G}}"
