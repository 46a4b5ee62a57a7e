"""Measure whether a vector depends on its batch, and how close models are to fp32.

    python -m benchmarks.quality [--json PATH] [--quick]

Invariance: each text alone and the same text in batches; no bit may differ. Closeness: the report
that preparation stores, for each precision of the starter model, which has real weights, and for
int8 of both EmbeddingGemmas with random ones. --quick keeps the last figures of the invariance, and
of the EmbeddingGemmas.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import arguments, save
from benchmarks.workloads import mixed_lengths, texts
from embedder.model import EmbeddingModel
from embedder.prepare.sentences import SENTENCES
from embedder.profile import Profile
from embedder.tokenized_text import TokenIds
from lab.models import RANDOM, prepared, random_embeddinggemma
from lab.results import results

PRECISIONS = ("int8", "fp16", "fp32")


def load(directory: Path) -> EmbeddingModel:
    return EmbeddingModel.load(directory, num_threads=2)


def differing(model: EmbeddingModel, token_ids: Sequence[TokenIds]) -> int:
    """The number of vectors with a bit that differs between alone and in a batch, in 3 orders."""
    alone = np.concatenate([model.engine.forward([ids]) for ids in token_ids])
    random = np.random.default_rng(0)
    count = 0
    for _ in range(3):
        order = random.permutation(len(token_ids))
        together = model.engine.forward([token_ids[index] for index in order])
        count += int((together != alone[order]).any(axis=1).sum())
    return count


def invariance() -> dict[str, int]:
    """Vectors that differ, by precision."""
    gemma = str(random_embeddinggemma())
    mixed = texts(mixed_lengths(3_000))
    found: dict[str, int] = {}
    for precision in ("int8", "fp32"):
        large = load(prepared(gemma, precision))
        starter = load(prepared(None, precision))
        tokens = starter.tokenizer.encode(SENTENCES, max_tokens=starter.max_tokens)
        of_starter = differing(starter, [text.ids for text in tokens])
        found[precision] = differing(large, mixed) + of_starter
        del large
    return found


def reports(name: str | None, *precisions: str) -> dict[str, Any]:
    """What preparation found, by precision."""
    return {
        precision: dict(Profile.load(prepared(name, precision)).verification)
        for precision in precisions
    }


def main() -> None:
    options = arguments("quality", __doc__)
    starter = {"starter": reports(None, *PRECISIONS)}
    if options.quick:
        save(options.json, results("quality") | starter)
        return
    gemmas = {name: reports(str(made()), "int8") for name, made in RANDOM.items()}
    save(options.json, {"differing": invariance(), **starter, **gemmas})


if __name__ == "__main__":
    main()
