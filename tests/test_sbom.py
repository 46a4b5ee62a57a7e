"""The bill of materials lists what is shipped, and nothing shipped forbids its use."""

import json
import re
from pathlib import Path

from packaging.requirements import Requirement

from dev.sbom import IMAGE, LOCK, ROOT, licence, licences, shipped, write

COPYLEFT = re.compile(r"(?<!L)GPL|AGPL|SSPL|BUSL|Commons Clause", re.IGNORECASE)


def locked() -> dict[str, str]:
    """Version by name of what pip would install from the lock on the image's machine."""
    lines = LOCK.read_text().replace("\\\n", "").splitlines()
    pins = [
        Requirement(line.split(" --hash=")[0])
        for line in lines
        if line and not line.lstrip().startswith("#")
    ]
    return {
        pin.name: str(pin.specifier)[2:]
        for pin in pins
        if not pin.marker or pin.marker.evaluate(IMAGE)
    }


def test_it_lists_every_package_of_the_image_once(tmp_path: Path) -> None:
    write(tmp_path)
    found = json.loads((tmp_path / "sbom.json").read_text())
    assert found["bomFormat"] == "CycloneDX"
    listed = {component["name"]: component["version"] for component in found["components"]}
    assert listed == locked()
    assert len(listed) == len(found["components"])
    assert {"bentoml", "numpy", "tokenizers"} <= listed.keys()
    assert not listed.keys() & {"torch", "onnxruntime", "ziglang", "colorama"}


def test_every_package_states_a_licence_that_lets_us_ship_it() -> None:
    stated = {name: licence(name) for name in shipped(LOCK.read_text())}
    assert not [
        name for name, text in stated.items() if text == "not stated" or COPYLEFT.search(text)
    ]


def test_the_licences_name_what_is_in_no_lock() -> None:
    text = licences()
    template = (ROOT / "Dockerfile").read_text()
    [base] = set(re.findall(r"(?m)^FROM (?:--platform=\S+ )?(\S+/\S+)", template))
    assert base in text
    assert "Gemma Terms of Use" in text
    assert all(f"| {name} | {version} |" in text for name, version in locked().items())
