"""Prepares a model: fetches, quantises, verifies, and saves it to the BentoML model store.

    python download_model.py [--model NAME] [--quantization int8|fp16|fp32] [--backend native|torch]
                             [--force] [--info] [--traceback]

Reads MODEL_NAME, MODEL_QUANTIZATION, MODEL_BACKEND and HF_TOKEN. Options override them.
"""

import argparse
import contextlib
import errno
import os
import resource
import sys
import tempfile
import traceback
from pathlib import Path

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# torch's threads spin while they wait: next to other work, preparation took 85 s instead of 28.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from embedder.errors import EmbedderError
from embedder.prepare import source as sources
from embedder.prepare import store
from embedder.prepare.errors import DiskFullError
from embedder.prepare.memory import require_memory
from embedder.prepare.needs import needs_of
from embedder.prepare.report import report
from embedder.profile import BACKENDS, model_tag
from settings import load_settings

QUANTIZATIONS = ("int8", "fp16", "fp32")


def prepare_model(
    name: str | None = None,
    *,
    quantization: str = "int8",
    backend: str = "native",
    hf_token: str | None = None,
    force: bool = False,
) -> str:
    """The BentoML tag of a model, which is prepared if the store does not have it.

    Args:
        name: as MODEL_NAME; None for the starter model.
        quantization: int8, fp16 or fp32.
        backend: native or torch.
        hf_token: Hugging Face access token.
        force: prepare the model even if the store has it.

    Raises:
        ModelPrepareError: its message says what to do.
    """
    tag_name = model_tag(name, quantization, backend)
    found = None if force else store.find(tag_name)
    if found and sources.is_on_hub(name):
        return found[0]  # without a network: the hub is only asked when a model is prepared
    if sources.is_on_hub(name):
        _say(f"Fetching {name} from huggingface.co, unless it was fetched before.")
    source = sources.locate(name, hf_token)
    if found and found[1].revision == source.revision:
        return found[0]
    needs = needs_of(source, quantization)
    _say(f"Preparing {source.model_id} in {quantization}: takes {needs}.")
    require_memory(needs.memory)
    for directory in (Path(tempfile.gettempdir()), store.directory()):
        store.require_space(directory, needs.disk)
    # Imports torch, which takes seconds, only when a model is prepared.
    from embedder.prepare.build import build

    try:
        return store.add(
            tag_name,
            lambda target: build(source, target, quantization=quantization, backend=backend),
        )
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise DiskFullError(str(error.filename or tempfile.gettempdir()), needs.disk) from error


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    settings = load_settings()
    parser = argparse.ArgumentParser(
        description="Prepare an embedding model and save it to the BentoML model store."
    )
    parser.add_argument(
        "--model", default=settings.model_name, help="as MODEL_NAME; default: the starter model"
    )
    parser.add_argument(
        "--quantization", default=settings.model_quantization, choices=QUANTIZATIONS
    )
    parser.add_argument("--backend", default=settings.model_backend, choices=BACKENDS)
    parser.add_argument(
        "--force", action="store_true", help="prepare again even if the store has the model"
    )
    parser.add_argument(
        "--info",
        action="store_true",
        help="print what was prepared, and how close it is to the original",
    )
    parser.add_argument(
        "--traceback", action="store_true", help="show where in the code a preparation failed"
    )
    parsed = parser.parse_args(arguments)
    parsed.hf_token = settings.hf_token.get_secret_value() if settings.hf_token else None
    return parsed


def peak_memory() -> int:
    """The highest resident memory of this process, in bytes.

    On Linux ru_maxrss includes what the parent had when it forked: 1.5 GB in a large test run.
    """
    with contextlib.suppress(OSError):  # only Linux has /proc
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main(arguments: list[str] | None = None) -> int:
    """Prepare or describe a model; returns an exit status."""
    options = _parse(arguments)
    name = model_tag(options.model, options.quantization, options.backend)
    if options.info:
        return _print_info(name)
    try:
        tag = prepare_model(
            options.model,
            quantization=options.quantization,
            backend=options.backend,
            hf_token=options.hf_token,
            force=options.force,
        )
    except EmbedderError as error:
        if options.traceback:
            traceback.print_exc()
        _say(f"error: {error}")
        return 1
    peak = peak_memory()
    print(f"{tag} is ready (peak memory {peak / 1e9:.1f} GB)")
    return 0


def _print_info(name: str) -> int:
    """Print the report of a stored model; returns an exit status."""
    found = store.find(name)
    if found is None:
        print(f"{name} is not prepared: make model")
        return 1
    tag, profile = found
    print(report(tag, store.path_of(tag), profile))
    return 0


if __name__ == "__main__":
    sys.exit(main())
