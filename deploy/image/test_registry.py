"""How much of the image a registry receives after a change of code."""

import json
from pathlib import Path

from deploy.image.containers import (
    ARCH,
    podman,
)


def test_a_registry_gets_only_what_changed(
    image: str, changed: str, registry: tuple[str, Path]
) -> None:
    address, data = registry
    sizes = []
    for one in (image, changed):
        podman("push", "--tls-verify=false", one, f"{address}/{one.removeprefix('localhost/')}")
        sizes.append(sum(path.stat().st_size for path in data.rglob("data")))
    added = sizes[1] - sizes[0]
    print(f"{ARCH}: {sizes[0] / 1e6:.0f} MB pushed, {added / 1e6:.2f} MB after a change of code")
    assert 0 < added < 5e6
    podman("rmi", "-f", podman("image", "inspect", "-f", "{{.Id}}", changed))
    pulled = podman("pull", "--tls-verify=false", f"{address}/embedding-api:changed")
    podman("tag", pulled, changed)
    assert json.loads(podman("image", "inspect", changed))[0]["Architecture"] == ARCH
