"""The original model: loaded by sentence-transformers in fp32, and its vectors."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from embedder.postprocess import Vectors, normalise
from embedder.prepare.errors import ModelConfigError
from embedder.prepare.families import family_of
from embedder.prepare.source import Source, read_config

LONG = 600  # characters; attention over a padded batch of longer texts would need GBs
BATCH = 16  # texts; calls of a small model take longer than its arithmetic


class Case(NamedTuple):
    """A text and what is put in front of it."""

    prompt: str
    text: str


def load_original(source: Source) -> SentenceTransformer:
    """The model in fp32 on the CPU, whatever the precision of its files.

    Special tokens in texts are text to it, as they are to `embedder.tokens`.

    Raises:
        ModelConfigError: the directory contradicts itself.
    """
    raw_config = read_config(source.directory)
    model = SentenceTransformer(
        str(source.directory),
        device="cpu",
        local_files_only=True,
        model_kwargs={"dtype": torch.float32},
    )
    model.float().eval()
    if model.tokenizer.truncation_side != "right":
        raise ModelConfigError(
            f"{source.model_id} truncates long texts on the left, which is not supported: set "
            "truncation_side to right in its tokenizer_config.json, or choose another model"
        )
    _read_as_text(model, source.model_id)
    loaded = model[0].auto_model.config
    family_of(loaded.model_type).check_config(raw_config, loaded)
    model.max_seq_length = max_tokens(model)
    return model


def _read_as_text(model: SentenceTransformer, model_id: str) -> None:
    """Have special tokens in texts read as text. Raises ModelConfigError for one in a prompt."""
    tokenizer = model.tokenizer
    special = [tokenizer(prompt)["input_ids"] for prompt in model.prompts.values()]
    tokenizer.split_special_tokens = True
    for prompt, ids in zip(model.prompts.values(), special, strict=True):
        if tokenizer(prompt)["input_ids"] != ids:
            raise ModelConfigError(
                f"{model_id} has a special token in its prompt {prompt!r}, which would be read as "
                "text: remove it from config_sentence_transformers.json, or choose another model"
            )


def max_tokens(model: SentenceTransformer) -> int:
    """The lowest of what the directory asks for, what the positions allow and what is trained."""
    config = model[0].auto_model.config
    family = family_of(config.model_type)
    positions = int(getattr(config, "max_position_embeddings", None) or model.max_seq_length)
    limit = min(positions - family.first_position(config), family.max_tokens or positions)
    return min(int(model.max_seq_length or limit), limit)


def original_vectors(
    model: SentenceTransformer, cases: Sequence[Case], *, batch_size: int = BATCH
) -> Vectors:
    """(n_texts, dimensions), L2-normalised; long texts one at a time."""
    vectors = np.empty((len(cases), model.get_embedding_dimension() or 0), np.float32)
    with tqdm(total=len(cases), desc="original vectors", unit="text", leave=False) as progress:
        for batch in _batches(cases, batch_size):
            texts = [cases[index].text for index in batch]
            vectors[batch] = model.encode(
                texts,
                prompt=cases[batch[0]].prompt,
                batch_size=len(batch),
                show_progress_bar=False,
            )
            progress.update(len(batch))
    return normalise(vectors)


def _batches(cases: Sequence[Case], batch_size: int) -> Iterator[list[int]]:
    """Indices of texts with one prompt and similar lengths."""

    def key(index: int) -> tuple[str, int]:
        return cases[index].prompt, len(cases[index].text)

    for prompt_and_long, group in groupby(
        sorted(range(len(cases)), key=key), key=lambda index: (key(index)[0], key(index)[1] > LONG)
    ):
        indices = list(group)
        size = 1 if prompt_and_long[1] else batch_size
        for start in range(0, len(indices), size):
            yield indices[start : start + size]
