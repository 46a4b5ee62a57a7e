"""The bill of materials lists what is shipped, and nothing shipped forbids its use."""

import json
import re
from pathlib import Path

from dev.sbom import LOCK, licence, shipped, write

COPYLEFT = re.compile(r"(?<!L)GPL|AGPL|SSPL|BUSL|Commons Clause", re.IGNORECASE)


def test_it_lists_every_package_of_the_image_once(tmp_path: Path) -> None:
    write(tmp_path)
    found = json.loads((tmp_path / "sbom.json").read_text())
    assert found["bomFormat"] == "CycloneDX"
    listed = {component["name"]: component["version"] for component in found["components"]}
    assert listed == shipped(LOCK.read_text())
    assert len(listed) == len(found["components"])
    assert {"bentoml", "onnxruntime", "tokenizers"} <= listed.keys()
    assert not listed.keys() & {"torch", "onnx", "colorama"}


def test_every_package_states_a_licence_that_lets_us_ship_it() -> None:
    stated = {name: licence(name) for name in shipped(LOCK.read_text())}
    assert not [name for name, text in stated.items() if text == "not stated" or COPYLEFT.search(text)]
