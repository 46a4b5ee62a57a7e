"""The manifests of Kubernetes, read and checked."""

from itertools import chain, combinations
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from tests.deploy.promql import DEPLOY

DIRECTORY = DEPLOY / "kubernetes"
BASE = DIRECTORY / "base"
FULL = DIRECTORY / "overlays" / "full"
COMPONENTS = sorted(path.parent for path in DIRECTORY.glob("components/*/kustomization.yaml"))
COMBINATIONS = list(
    chain.from_iterable(combinations(COMPONENTS, count) for count in range(len(COMPONENTS) + 1))
)
APPLIED_ALONE = {"model-loader.yaml"}
CUSTOM = {"ScaledObject", "ServiceMonitor"}  # of operators; Kubernetes has no schema for them
Manifest = dict[str, Any]


def kustomization(directory: Path) -> Manifest:
    return dict(yaml.safe_load((directory / "kustomization.yaml").read_text()))


def manifests(directory: Path) -> list[Manifest]:
    """Every document of a kustomization and of those that it builds on, without patches."""
    found: list[Manifest] = []
    listed = kustomization(directory)
    for name in listed["resources"] + listed.get("components", []):
        path = directory / name
        found += manifests(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    return found


def check_schema(item: Manifest) -> None:
    if item["kind"] not in CUSTOM:
        kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)


def one(kind: str, name: str = "embedding-api") -> Manifest:
    [found] = [
        item
        for item in manifests(BASE)
        if item["kind"] == kind and item["metadata"]["name"] == name
    ]
    return found


def labels_of(deployment: str) -> Manifest:
    labels: Manifest = one("Deployment", deployment)["spec"]["template"]["metadata"]["labels"]
    return labels
