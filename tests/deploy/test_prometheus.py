"""Alerts fire when they should and only then, and read what the service writes."""

import subprocess
from pathlib import Path

import yaml

from api.errors import KINDS
from tests.deploy.promql import DEPLOY, RULES, alerts, known_names, label_values, names, rules

PROMETHEUS = DEPLOY / "prometheus"
CASES = PROMETHEUS / "tests" / "embedding-api.yml"
SUB_REASONS = {"api_key", "role"}  # of TokenForbidden


def promtool(*arguments: str | Path) -> None:
    ended = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_prometheus_takes_the_configuration_and_its_rules() -> None:
    promtool("check", "config", PROMETHEUS / "prometheus.yml")
    promtool("check", "rules", "--lint=all", "--lint-fatal", *RULES.glob("*.yml"))


def test_alerts_fire_on_what_they_are_for_and_not_on_what_looks_like_it() -> None:
    promtool("test", "rules", CASES)


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    checks = [check for case in yaml.safe_load(CASES.read_text())["tests"] for check in case["alert_rule_test"]]
    assert {check["alertname"] for check in checks if check["exp_alerts"]} == alerts().keys()
    assert {check["alertname"] for check in checks if not check["exp_alerts"]} == alerts().keys()


def test_rules_read_series_that_exist() -> None:
    for rule in rules():
        assert names(rule["expr"]) <= known_names(), rule


def test_rules_ask_for_reasons_that_requests_are_refused_for() -> None:
    given = {getattr(error, "reason", None) for error in KINDS} | SUB_REASONS
    for rule in rules():
        assert label_values(rule["expr"], "reason") <= given, rule


def test_an_alert_says_how_urgent_it_is_and_where_to_read_on() -> None:
    for name, alert in alerts().items():
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["annotations"]["runbook_url"] == f"RUNBOOK.md#{name.lower()}"
        assert alert["annotations"]["summary"]


def test_the_memory_that_alerts_know_is_that_of_the_compose_file() -> None:
    [limit] = [rule["expr"] for rule in rules() if rule.get("record") == "embed:memory_limit:bytes"]
    compose = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
    given = compose["services"]["embedding-api"]["deploy"]["resources"]["limits"]["memory"]
    assert limit == f"{given.removesuffix('G')} * 1024 ^ 3"
