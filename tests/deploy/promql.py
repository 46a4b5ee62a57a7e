"""The metrics, recorded series and label values that PromQL expressions name."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import metrics
from jobs.table import metrics as table_metrics

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules"
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
_STRING = re.compile(r'"[^"]*"')
_SELECTOR = re.compile(r"\{[^}]*\}")
_NAME = re.compile(r"\b(?:embed_|process_|job:|job_status:|embed:)[a-z0-9_:]+")


def rules() -> list[dict[str, Any]]:
    """Every alerting and recording rule."""
    files = [yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yml"))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def names(promql: str) -> set[str]:
    """The series that an expression reads."""
    return set(_NAME.findall(_SELECTOR.sub("", _STRING.sub('""', promql))))


def label_values(promql: str, label: str) -> set[str]:
    """The values that `label` is compared with, alternatives separately."""
    found = re.findall(rf'\b{label}\s*!?=~?\s*"([^"]*)"', promql)
    return {value for values in found for value in values.split("|")}


def known_names() -> set[str]:
    """Every series that the service exports or a rule records."""
    return {rule["record"] for rule in rules() if "record" in rule} | set(_exported())


def _exported() -> Iterator[str]:
    """The series of both modules of metrics, under any settings, and of the collectors."""
    files = [str(module.__file__) for module in (metrics, table_metrics)]
    sources = [Path(file).read_text() for file in files]
    for node in [node for source in sources for node in ast.walk(ast.parse(source))]:
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id.lower() in _SUFFIXES
        ):
            name = ast.literal_eval(node.args[0]).removesuffix("_total")
            yield from (name + suffix for suffix in _SUFFIXES[node.func.id.lower()])
    yield from (sample.name for family in metrics.REGISTRY.collect() for sample in family.samples)
