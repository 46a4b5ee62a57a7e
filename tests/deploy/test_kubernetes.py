"""The manifests fit the schemas of Kubernetes, one another, and the service."""

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, cast

import kubernetes_validate
import pytest
import yaml

from api.bento import EmbeddingService
from api.routes import marked_pages
from gate.client_address import TrustedProxies, client_address
from lab.server import ROOT
from service import EmbeddingAPI
from settings import VERSION, Settings
from tests.deploy.manifests import (
    APPLIED_ALONE,
    BASE,
    COMBINATIONS,
    COMPONENTS,
    DIRECTORY,
    FULL,
    check_schema,
    kustomization,
    labels_of,
    manifests,
    one,
)


@pytest.mark.parametrize("directory", [BASE, FULL], ids=lambda path: path.name)
def test_every_manifest_fits_its_schema(directory: Path) -> None:
    found = manifests(directory)
    assert {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"} <= {
        item["kind"] for item in found
    }
    for item in found:
        check_schema(item)


def test_nothing_is_there_twice_when_all_components_are_put_together() -> None:
    found = [(item["kind"], item["metadata"]["name"]) for item in manifests(FULL)]
    assert len(found) == len(set(found))
    assert [
        (FULL / name).resolve() for name in sorted(kustomization(FULL)["components"])
    ] == COMPONENTS


def test_components_patch_what_the_base_has() -> None:
    patches = [
        patch for directory in COMPONENTS for patch in kustomization(directory).get("patches", [])
    ]
    assert patches
    for patch in patches:
        target = one(patch["target"]["kind"], patch["target"]["name"])
        for step in yaml.safe_load(patch["patch"]) if patch["patch"].startswith("-") else []:
            place: Any = target
            for part in step["path"].split("/")[1:-1]:
                place = place[int(part) if part.isdigit() else part]
            assert isinstance(place, list) == step["path"].endswith("/-")


@pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="no kubectl to put the components together with"
)
@pytest.mark.parametrize(
    "chosen", COMBINATIONS, ids=lambda chosen: "+".join(path.name for path in chosen) or "base"
)
def test_any_components_go_together(chosen: tuple[Path, ...], tmp_path: Path) -> None:
    copy = shutil.copytree(DIRECTORY, tmp_path / "kubernetes")
    full = copy / "overlays" / "full" / "kustomization.yaml"
    components = [f"../../components/{path.name}" for path in chosen]
    full.write_text(yaml.safe_dump(yaml.safe_load(full.read_text()) | {"components": components}))
    done = subprocess.run(
        ["kubectl", "kustomize", full.parent], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found = {
        (item["kind"], item["metadata"]["name"]): item for item in yaml.safe_load_all(done.stdout)
    }
    for item in found.values():
        check_schema(item)
        assert item["kind"] == "Namespace" or item["metadata"]["namespace"] == "embedding-api"
    with_components = {path.name for path in chosen}
    kinds = {kind for kind, _ in found}
    assert ("ServiceMonitor" in kinds) == ("monitoring" in with_components)
    assert (
        ("ScaledObject" in kinds)
        == ("HorizontalPodAutoscaler" not in kinds)
        == ("keda" in with_components)
    )
    volumes = found["Deployment", "embedding-api"]["spec"]["template"]["spec"]["volumes"]
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in volumes
        if "persistentVolumeClaim" in volume
    }
    assert claims == ({"models"} if "model-volume" in with_components else set())
    assert ("PersistentVolumeClaim", "models") in found or not claims


def test_the_schemas_notice_a_mistake() -> None:
    deployment = one("Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, kubernetes_validate.latest_version(), strict=True)


def test_every_file_is_listed() -> None:
    for directory in (BASE, FULL, *COMPONENTS):
        listed = {name for name in kustomization(directory)["resources"] if name.endswith(".yaml")}
        assert {path.name for path in directory.glob("*.yaml")} - {
            "kustomization.yaml"
        } - APPLIED_ALONE == listed


def test_selectors_choose_the_pods_they_mean() -> None:
    ours = labels_of("embedding-api")
    redis = labels_of("redis")
    assert ours != redis
    assert one("Service")["spec"]["selector"] == ours
    assert one("Service", "redis")["spec"]["selector"] == redis
    assert one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == ours
    assert one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == ours
    assert one("NetworkPolicy", "redis")["spec"]["podSelector"]["matchLabels"] == redis
    [spread] = one("Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == ours
    assert (
        one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"]
        == one("Deployment")["metadata"]["name"]
    )


def test_probes_ask_for_pages_that_are_there() -> None:
    [container] = one("Deployment")["spec"]["template"]["spec"]["containers"]
    there = {page.path for page in marked_pages(cast(EmbeddingService, EmbeddingAPI).inner)}
    asked = {
        container[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert asked == {"/readyz", "/livez"} <= there


def test_settings_are_settings_and_redis_is_the_redis_service() -> None:
    data = one("ConfigMap")["data"]
    assert data.keys() <= {name.upper() for name in Settings.model_fields}
    service = one("Service", "redis")
    port = service["spec"]["ports"][0]["port"]
    assert data["REDIS_URL"] == f"redis://{service['metadata']['name']}:{port}"


def test_the_pod_runs_as_nobody_on_a_read_only_root() -> None:
    pod = one("Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    template = (ROOT / "Dockerfile").read_text()
    assert (
        f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}\n"
        in template
    )
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/tmp"}


def test_callers_behind_the_ingress_have_addresses_of_their_own() -> None:
    trusted = TrustedProxies.parse(one("ConfigMap")["data"]["FORWARDED_ALLOW_IPS"])
    for ingress in ("10.42.0.7", "172.17.0.3", "192.168.5.1", "100.64.3.2", "fd00:10:244::7"):
        assert client_address(ingress, [b"203.0.113.9"], trusted) == "203.0.113.9"
    assert client_address("198.51.100.1", [b"203.0.113.9"], trusted) == "198.51.100.1"


def test_redis_counts_as_the_one_of_the_compose_file_does() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["redis"]
    pod = one("Deployment", "redis")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert ["redis-server", *container["args"]] == shlex.split(compose["command"])
    assert container["image"].removeprefix("docker.io/library/") == compose["image"]
    security = pod["securityContext"]
    assert f"{security['runAsUser']}:{security['fsGroup']}" == compose["user"]
    [volume] = pod["volumes"]
    [mount] = container["volumeMounts"]
    assert f"{compose['volumes'][0].split(':')[0]}:{mount['mountPath']}" == "redis:/data"
    assert one("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])


def test_the_service_may_go_to_dns_to_redis_and_to_its_key_set() -> None:
    to_anywhere = set()
    to_redis = set()
    for rule in one("NetworkPolicy")["spec"]["egress"]:
        ports = {(port["port"], port.get("protocol", "TCP")) for port in rule["ports"]}
        if "to" not in rule:
            to_anywhere |= ports
        else:
            assert rule["to"] == [{"podSelector": {"matchLabels": labels_of("redis")}}]
            to_redis |= ports
    assert to_anywhere == {(53, "UDP"), (53, "TCP"), (443, "TCP")}
    assert to_redis == {(6379, "TCP")}


def test_the_claim_of_the_model_is_filled_by_a_pod_that_the_namespace_allows() -> None:
    component = DIRECTORY / "components" / "model-volume"
    loader = yaml.safe_load((component / "model-loader.yaml").read_text())
    check_schema(loader)
    [claim] = manifests(component)
    [volume] = loader["spec"]["volumes"]
    assert volume["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}
    ours = one("Deployment")["spec"]["template"]["spec"]
    security = loader["spec"]["securityContext"]
    [container] = loader["spec"]["containers"]
    assert security == ours["securityContext"] | {"fsGroup": ours["securityContext"]["runAsUser"]}
    assert container["securityContext"] == ours["containers"][0]["securityContext"]
    assert loader["metadata"]["namespace"] == one("Namespace")["metadata"]["name"]


def test_the_image_is_of_this_version() -> None:
    [image] = yaml.safe_load((BASE / "kustomization.yaml").read_text())["images"]
    assert image["newTag"] == VERSION
