"""sentence-transformers without its tokeniser, in fp32 or bf16."""

from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from benchmarks.peers import Embed, Ids, Matrix, in_padded_batches
from lab.models import RANDOM

PACKAGE = "sentence-transformers"


def prepare(**_: Any) -> None:
    """Nothing to do: the original is loaded."""


def load(threads: int, *, dtype: str = "float32", model: str = "embeddinggemma") -> Embed:
    torch.set_num_threads(threads)
    options = {"dtype": getattr(torch, dtype)}
    original = SentenceTransformer(str(RANDOM[model]()), device="cpu", model_kwargs=options)

    @torch.inference_mode()
    def run(ids: Ids, mask: Ids) -> Matrix:
        features = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        vectors: Matrix = original(features)["sentence_embedding"].float().numpy()
        return vectors

    return in_padded_batches(run)
