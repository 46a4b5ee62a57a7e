"""Score a model on tasks of MTEB: the engine in each precision beside sentence-transformers.

    python -m benchmarks.mteb [--model NAME] [--tasks SET_OR_TASK ...] [--precisions fp32 int8]

The model is MODEL_NAME's by default, and prepared if it is not yet. All sides get the same texts
and prompts. `--tasks written` needs no network; `short`, `long` and names of MTEB's own tasks fetch
their data from Hugging Face. Exit status: 1 if a score is further below that of
sentence-transformers than TOLERANCES allow.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import bentoml
import mteb
import numpy as np
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder

from benchmarks.mteb_tasks import SETS, WRITTEN, tasks_of
from benchmarks.report import save
from download_model import QUANTIZATIONS, prepare_model
from embedder.model import EmbeddingModel
from embedder.postprocess import Vectors
from embedder.prepare.original import load_original
from embedder.prepare.source import Source, locate
from embedder.profile import Profile
from embedder.threads import available_threads
from settings import load_settings

REFERENCE = "sentence-transformers"
BATCH = 128  # texts given to a side at a time
# Points of 100 that a precision may be below the reference; fp32 differs by rounding alone.
TOLERANCES = {"fp32": 0.1, "fp16": 0.2, "int8": 1.0}
# The service's task for each type of task of MTEB, where the texts are not queries or documents.
TASKS = {
    "STS": "similarity",
    "PairClassification": "similarity",
    "BitextMining": "similarity",
    "Classification": "classification",
    "MultilabelClassification": "classification",
    "Clustering": "clustering",
}

Embed: TypeAlias = Callable[[Sequence[str], str], Vectors]  # texts and their prompt
Scores: TypeAlias = dict[str, float]  # by task, 0 to 100


class Encoder(AbsEncoder):
    """One side, as MTEB calls it."""

    def __init__(self, side: str, profile: Profile, embed: Embed) -> None:
        self._tasks, self._embed = profile.tasks, embed
        self.mteb_model_meta = ModelMeta.create_empty(
            {"name": f"embedding-api/{side}", "revision": profile.revision}
        )

    def encode(
        self, inputs: Any, *, task_metadata: Any, prompt_type: Any = None, **_: Any
    ) -> Vectors:
        """(n_texts, dimensions), L2-normalised, of batches with a list `text`."""
        prompt = prompt_of(self._tasks, task_metadata.type, prompt_type and prompt_type.value)
        return np.concatenate([self._embed(batch["text"], prompt) for batch in inputs])


def prompt_of(tasks: Mapping[str, str], kind: str, side: str | None) -> str:
    """The prompt of texts.

    Args:
        tasks: the model's prompts by task.
        kind: MTEB's type of task.
        side: `query` or `document` where texts are one of these.
    """
    return tasks.get(side or TASKS.get(kind, ""), "")


def sides(name: str | None, precisions: Sequence[str]) -> Mapping[str, Callable[[], Encoder]]:
    """What loads sentence-transformers, and the engine in each precision, by their names.

    Prepares the model in precisions in which it is not prepared yet.
    """
    settings = load_settings()
    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    tags = [prepare_model(name, quantization=one, hf_token=token) for one in precisions]
    directories = [Path(bentoml.models.get(tag).path) for tag in tags]
    engines = {
        precision: partial(_engine, precision, directory)
        for precision, directory in zip(precisions, directories, strict=True)
    }
    return {REFERENCE: partial(_original, locate(name, token), directories[0]), **engines}


def _engine(side: str, directory: Path) -> Encoder:
    model = EmbeddingModel.load(directory, num_threads=available_threads())
    return Encoder(side, model.profile, model.embed)


def _original(source: Source, directory: Path) -> Encoder:
    original = load_original(source)

    def embed(texts: Sequence[str], prompt: str) -> Vectors:
        vectors: Vectors = original.encode(
            list(texts), prompt=prompt, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors

    return Encoder(REFERENCE, Profile.load(directory), embed)


def scores_of(encoder: Encoder, tasks: Sequence[Any]) -> Scores:
    """The main score of each task, 0 to 100."""
    found = mteb.evaluate(
        encoder,
        tasks,
        cache=None,
        co2_tracker=False,
        encode_kwargs={"batch_size": BATCH},
        show_progress_bar=False,
    )
    return {result.task_name: 100 * result.get_score() for result in found.task_results}


def table(scores: Mapping[str, Scores]) -> str:
    """Scores as Markdown: one row per task, one column per side."""
    rows = [f"| Task | {' | '.join(scores)} |", "| --- |" + " ---: |" * len(scores)]
    for task in scores[REFERENCE]:
        shown = [f"{of_side[task]:.2f}" for of_side in scores.values()]
        rows.append(f"| {task} | {' | '.join(shown)} |")
    return "\n".join(rows)


def too_low(scores: Mapping[str, Scores]) -> list[str]:
    """What is further below the reference than it may be, in words."""
    return [
        f"{task} in {side}: {score:.2f}, {reference - score:.2f} below {REFERENCE}"
        for side, tolerance in TOLERANCES.items()
        for task, score in scores.get(side, {}).items()
        if not (reference := scores[REFERENCE][task]) - score <= tolerance
    ]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mteb", description="Score a model on tasks of MTEB."
    )
    parser.add_argument("--model", default=load_settings().model_name, help="as MODEL_NAME")
    parser.add_argument(
        "--tasks",
        nargs="+",
        default=["short"],
        metavar="NAME",
        help=f"{WRITTEN}, {', '.join(SETS)}, or tasks of MTEB (default: short)",
    )
    parser.add_argument("--precisions", nargs="+", default=["fp32", "int8"], choices=QUANTIZATIONS)
    parser.add_argument("--json", type=Path, default=Path("build/mteb.json"))
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run every side on every task; returns an exit status."""
    options = parse(arguments)
    tasks = tasks_of(options.tasks)
    scores: dict[str, Scores] = {}
    for side, load in sides(options.model, options.precisions).items():
        print(f"--- {side}", file=sys.stderr, flush=True)
        scores[side] = scores_of(load(), tasks)
    save(options.json, {"model": options.model, "mteb": mteb.__version__, "scores": scores})
    print(table(scores))
    failed = too_low(scores)
    print("\n".join(failed), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
