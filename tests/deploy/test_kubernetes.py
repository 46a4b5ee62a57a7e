"""The manifests fit Kubernetes's schemas, one another, and the service."""

from pathlib import Path
from typing import Any, cast

import kubernetes_validate
import pytest
import yaml

import metrics
from api.bento import GuardedService, Page
from service import EmbeddingAPI
from settings import VERSION, Settings

DIRECTORY = Path(__file__).parents[2] / "deploy" / "kubernetes"
BASE = DIRECTORY / "base"
OVERLAYS = sorted(path.parent for path in DIRECTORY.glob("overlays/*/kustomization.yaml"))
CUSTOM = {"ScaledObject", "ServiceMonitor"}  # of operators; Kubernetes has no schema for them
Manifest = dict[str, Any]


def manifests(directory: Path) -> list[Manifest]:
    """Every document that a kustomization lists, those of the ones that it builds on first."""
    found: list[Manifest] = []
    for name in yaml.safe_load((directory / "kustomization.yaml").read_text())["resources"]:
        path = directory / name
        found += manifests(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    return found


def one(kind: str, name: str = "embedding-api") -> Manifest:
    [found] = [item for item in manifests(BASE) if item["kind"] == kind and item["metadata"]["name"] == name]
    return found


def labels_of(deployment: str) -> Manifest:
    labels: Manifest = one("Deployment", deployment)["spec"]["template"]["metadata"]["labels"]
    return labels


@pytest.mark.parametrize("directory", [BASE, *OVERLAYS], ids=lambda path: path.name)
def test_every_manifest_fits_its_schema(directory: Path) -> None:
    found = manifests(directory)
    assert {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"} <= {item["kind"] for item in found}
    for item in found:
        if item["kind"] not in CUSTOM:
            kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)


def test_the_schemas_notice_a_mistake() -> None:
    deployment = one("Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, kubernetes_validate.latest_version(), strict=True)


def test_every_file_is_listed() -> None:
    for directory in (BASE, *OVERLAYS):
        listed = set(yaml.safe_load((directory / "kustomization.yaml").read_text())["resources"])
        assert {path.name for path in directory.glob("*.yaml")} - {"kustomization.yaml"} == {
            name for name in listed if name.endswith(".yaml")
        }


def test_selectors_choose_the_pods_they_mean() -> None:
    ours, redis = labels_of("embedding-api"), labels_of("redis")
    assert ours != redis
    assert one("Service")["spec"]["selector"] == ours
    assert one("Service", "redis")["spec"]["selector"] == redis
    assert one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == ours
    assert one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == ours
    assert one("NetworkPolicy", "redis")["spec"]["podSelector"]["matchLabels"] == redis
    [spread] = one("Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == ours
    assert one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == one("Deployment")["metadata"]["name"]


def test_probes_ask_for_pages_that_are_there() -> None:
    [container] = one("Deployment")["spec"]["template"]["spec"]["containers"]
    there = {page.path for member in vars(cast(GuardedService, EmbeddingAPI).inner).values() for page in _pages(member)}
    asked = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert asked == {"/readyz", "/livez"} <= there


def _pages(member: Any) -> list[Page]:
    return list(getattr(member, "pages", ()))


def test_settings_are_settings_and_redis_is_the_redis_service() -> None:
    data = one("ConfigMap")["data"]
    assert data.keys() <= {name.upper() for name in Settings.model_fields}
    service = one("Service", "redis")
    port = service["spec"]["ports"][0]["port"]
    assert data["REDIS_URL"] == f"redis://{service['metadata']['name']}:{port}"


def test_the_pod_runs_as_nobody_on_a_read_only_root() -> None:
    pod = one("Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    template = (DIRECTORY.parent / "image" / "Dockerfile.template").read_text()
    assert f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}\n" in template
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/tmp"}
    assert container["resources"]["limits"]["cpu"] == container["resources"]["requests"]["cpu"]


def test_scaling_asks_for_a_metric_that_the_service_has() -> None:
    [scaled] = yaml.safe_load_all((DIRECTORY / "overlays/keda/scaled-object.yaml").read_text())
    [trigger] = scaled["spec"]["triggers"]
    names = {family.name for family in metrics.REGISTRY.collect()}
    assert "embed_queue_wait_seconds" in names
    assert "embed_queue_wait_seconds_bucket" in trigger["metadata"]["query"]


def test_the_image_is_of_this_version() -> None:
    [image] = yaml.safe_load((BASE / "kustomization.yaml").read_text())["images"]
    assert image["newTag"] == VERSION
