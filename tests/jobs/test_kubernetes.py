"""The KubeRay example agrees with the code and the lock file."""

import re
import subprocess
import sys

import yaml

from jobs.embed_dataset import parse
from lab.server import ROOT

DIRECTORY = ROOT / "deploy" / "kubernetes"
RAYJOB = yaml.safe_load((DIRECTORY / "bulk-rayjob.yaml").read_text())


def test_the_command_of_the_example_is_valid() -> None:
    python, module, name, *arguments = RAYJOB["spec"]["entrypoint"].split()
    assert (python, module, name) == ("python", "-m", "jobs.embed_dataset")
    assert parse(arguments).address == "auto"


def test_image_cluster_and_lock_have_the_same_version_of_ray() -> None:
    [locked] = re.findall(
        r"(?m)^ray(?:\[.*\])?==(\S+)", (ROOT / "requirements" / "bulk.txt").read_text()
    )
    [image] = re.findall(
        r"(?m)^FROM rayproject/ray:(\S+)-py311$", (DIRECTORY / "bulk.Dockerfile").read_text()
    )
    assert {locked, image, RAYJOB["spec"]["rayClusterSpec"]["rayVersion"]} == {locked}


def test_every_pod_has_the_model_and_limits() -> None:
    cluster = RAYJOB["spec"]["rayClusterSpec"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        [container] = group["template"]["spec"]["containers"]
        assert {"name": "models", "mountPath": "/models", "readOnly": True} in container[
            "volumeMounts"
        ]
        assert container["resources"]["limits"] == container["resources"]["requests"]


LOCAL = """
import sys
from pathlib import Path
import jobs.cluster, jobs.embed_dataset
files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
here = (Path(file).relative_to(Path.cwd()) for file in files if file and
        Path(file).is_relative_to(Path.cwd()) and ".venv" not in file)
print(*{path.parts[0] for path in here})
"""


def test_the_image_has_every_module_that_a_job_imports() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LOCAL], cwd=ROOT, capture_output=True, text=True, check=True
    )
    copied = re.findall(r"(?m)^COPY (.*) \S+$", (DIRECTORY / "bulk.Dockerfile").read_text())
    assert set(" ".join(copied).split()) >= {*ran.stdout.split()} >= {"jobs", "embedder"}
