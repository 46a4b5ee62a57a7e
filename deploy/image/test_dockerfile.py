"""What `docker build` makes: the service of `bentoml containerize`, and what prepares models."""

import re
from pathlib import Path

import pytest

from deploy.image.containers import ARCH, NATIVE, TEXTS, podman, stored
from deploy.torch_index import torch_index
from embedder.model import EmbeddingModel
from embedder.prepare.needs import needs_of
from embedder.prepare.source import locate
from lab.server import ROOT

pytestmark = pytest.mark.skipif(not NATIVE, reason="this buildah would emulate a compiler")
SERVICE, PREPARE = (
    "localhost/embedding-api:dockerfile",
    "localhost/embedding-api-prepare:dockerfile",
)
LISTING = r"""
import hashlib, os
for root in ("/bento", "/bentoml", "/packages"):
    for directory, _, names in os.walk(root):
        for path in (os.path.join(directory, name) for name in names):
            print(path, hashlib.sha256(open(path, "rb").read()).hexdigest())
"""
OF_ITS_OWN = "/bento/bento.yaml"  # the version of a Bento, and the time of its making
DOWNLOADS = ("-v", "/downloads")
SMALL = ("--memory=500m", "--memory-swap=500m")
FULL = "type=tmpfs,destination=/downloads,tmpfs-size=20m,U=true"
LIMIT = "3g"  # of the smallest machine that is supported


@pytest.fixture(scope="module", autouse=True)
def built(tmp_path_factory: pytest.TempPathFactory) -> None:
    with torch_index(tmp_path_factory.mktemp("index")) as index:
        options = [
            "--network=host",
            "--layers",
            "--format=docker",
            f"--build-arg=TORCH_INDEX={index}",
        ]
        podman("build", *options, "--target=prepare", "-t", PREPARE, str(ROOT), timeout=2400)
        podman("build", *options, "-t", SERVICE, str(ROOT), timeout=2400)


def files(image: str) -> dict[str, str]:
    """SHA-256 by path."""
    command = ("run", "--rm", "--entrypoint", "python", image, "-c", LISTING)
    lines = podman(*command).splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith(OF_ITS_OWN))


def test_both_ways_make_the_same_files(image: str) -> None:
    ours, theirs = files(SERVICE), files(image)
    assert "/bento/src/service.py" in ours
    assert ours.keys() == theirs.keys()
    assert [path for path in ours if ours[path] != theirs[path]] == []


def prepare(*options: str) -> str:
    """The output of a preparation that ends by itself."""
    base = ("--rm", "--read-only", "--tmpfs=/tmp", "--cap-drop=all")
    return podman("run", *base, *options, PREPARE, check=False)


def test_each_failure_is_one_line(tmp_path: Path) -> None:
    gated = ("-e", "MODEL_NAME=google/embeddinggemma-300m")
    unknown = ("-e", "MODEL_NAME=organisation/model", "--network=none")
    cases = {
        "needs a Hugging Face token": (*DOWNLOADS, *gated),
        "huggingface.co could not be reached": (*DOWNLOADS, *unknown),
        "GB of memory are needed and 0.5 GB are allowed": (*DOWNLOADS, *SMALL),
        "no space left in /downloads/tmp": ("--mount", FULL),
    }
    for said, options in cases.items():
        output = prepare("-v", "/bentoml/models", *options)
        [line] = [line for line in output.splitlines() if line.startswith("error: ")]
        assert said in line, output
        assert "Traceback" not in output


def test_embeddinggemma_is_prepared_within_the_memory_of_the_smallest_machine(
    full_size: tuple[str, str], tmp_path: Path
) -> None:
    name, models = full_size
    (tmp_path / "models").mkdir(mode=0o777)
    (tmp_path / "models").chmod(0o777)
    limits = (f"--memory={LIMIT}", f"--memory-swap={LIMIT}", "--cpus=1.5")
    mounts = ("-v", f"{name}:{name}:ro", "-v", f"{tmp_path}/models:/bentoml/models", *DOWNLOADS)
    owner = ("--user=0", "--cap-add=DAC_OVERRIDE")  # only root can read the weights there
    output = prepare(*limits, *owner, *mounts, "-e", f"MODEL_NAME={name}")
    [peak] = re.findall(r"is ready \(peak memory (\d+\.\d) GB\)", output)
    needed = needs_of(locate(name), "int8").memory / 1e9
    print(f"{ARCH}: peak {peak} GB under {LIMIT}, {needed:.1f} GB announced")
    assert 1 < float(peak) <= needed
    ours, theirs = (
        EmbeddingModel.load(stored(store, name, "int8"), num_threads=2).embed(TEXTS)
        for store in (tmp_path / "models", Path(models))
    )
    # Other libraries or another number of cores change a few weights, so other activations are
    # rounded: 0.9998 between two preparations of the starter model.
    assert (ours * theirs).sum(axis=1).min() > 0.998
