"""Turn a sentence-transformers directory into a prepared model: write it, then verify it."""

import errno
import gc
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import transformers
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from embedder.errors import EmbedderError
from embedder.native_engine import NativeEngine
from embedder.postprocess import Vectors, normalise
from embedder.prepare import verify
from embedder.prepare.errors import ModelConfigError, VerificationError
from embedder.prepare.families import family_of
from embedder.prepare.native import NativeModel
from embedder.prepare.sentences import SENTENCES, long_text
from embedder.prepare.source import Source, read_config, text_only
from embedder.prepare.tokenizer_file import without_special_pieces
from embedder.profile import TOKENIZER_FILE, TORCH_DIRECTORY, WEIGHTS_FILE, Profile, sha256_file
from embedder.threads import available_threads
from embedder.tokens import Tokenizer

STEPS = 4  # load, embed with the original, write, compare
STORE_FILE = "model.yaml"  # the model store writes it after the profile

Case: TypeAlias = tuple[str, str]  # prompt, text
Fields: TypeAlias = dict[str, Any]
Steps: TypeAlias = "tqdm[Any]"


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
    """The lower of what the directory asks for and what the positions allow."""
    config = model[0].auto_model.config
    positions = int(getattr(config, "max_position_embeddings", None) or model.max_seq_length)
    limit = positions - family_of(config.model_type).first_position(config)
    return min(int(model.max_seq_length or limit), limit)


def build(source: Source, target: Path, *, quantization: str, backend: str) -> Profile:
    """Write weights and tokenizer to `target`. The returned profile is not saved yet.

    Raises:
        UnsupportedModelError: the native engine cannot run the model.
        ModelConfigError: the model's files cannot be read, or contradict themselves.
        VerificationError: the vectors are too far from the original's.
    """
    with _one_line_errors(source.model_id), text_only(source) as texts_only, _steps() as steps:
        fields, verification = BUILDERS[backend](texts_only, target, quantization, steps)
        files = {
            path.relative_to(target).as_posix(): sha256_file(path)
            for path in sorted(target.rglob("*"))
            if path.is_file() and path.name != STORE_FILE
        }
        return Profile.of({**fields, "files": files, "verification": verification})


@contextmanager
def _one_line_errors(model_id: str) -> Iterator[None]:
    """Turn any error of the libraries that read a model's files into a ModelConfigError.

    A full disk and a lack of memory are raised as they are.
    """
    try:
        yield
    except (EmbedderError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
        raise ModelConfigError(
            f"{model_id} cannot be prepared ({reason}): check its files with "
            "sentence-transformers, or see where it failed with "
            "`python download_model.py --traceback`"
        ) from error


def _steps() -> Steps:
    transformers.logging.set_verbosity_error()  # its warnings do not concern users
    transformers.logging.disable_progress_bar()
    return tqdm(total=STEPS, desc="prepare", unit="step")


def _build_torch(
    source: Source, target: Path, quantization: str, steps: Steps
) -> tuple[Fields, Fields]:
    model = load_original(source)
    _write_tokenizer(model, target)
    shutil.copytree(
        source.directory,
        target / TORCH_DIRECTORY,
        ignore=shutil.ignore_patterns("onnx", "openvino"),
    )
    steps.update(STEPS)
    note = "the original itself, nothing to compare"
    return _describe(model, source, "fp32", "torch"), {"note": note}


def _build_native(
    source: Source, target: Path, quantization: str, steps: Steps
) -> tuple[Fields, Fields]:
    """The original is freed before the engine is opened: both together need 1.6 GB."""
    fields, cases, reference = _read_original(source, target, quantization, steps)
    gc.collect()
    prepared = Prepared(target, fields)
    agreement = verify.compare(prepared.vectors(cases), reference)
    verify.require_floor(agreement, quantization)
    report = {"texts": len(cases), "to_original": asdict(agreement)} | _golden(prepared)
    steps.update()
    return fields, report


def _read_original(
    source: Source, target: Path, quantization: str, steps: Steps
) -> tuple[Fields, list[Case], Vectors]:
    """Everything that needs the original model, which is freed on return."""
    model = load_original(source)
    steps.update()
    _write_tokenizer(model, target)
    fields = _describe(model, source, quantization, "native")
    prepared = NativeModel(
        model, source.model_id, precision=quantization, max_tokens=fields["max_tokens"]
    )
    cases = _cases(fields["prompts"])
    with prepared.calibrating():
        reference = original_vectors(model, cases)
    steps.update()
    prepared.write(target / WEIGHTS_FILE)
    steps.update()
    return fields, cases, reference


BUILDERS: Mapping[str, Callable[[Source, Path, str, Steps], tuple[Fields, Fields]]] = {
    "native": _build_native,
    "torch": _build_torch,
}


def _describe(
    model: SentenceTransformer, source: Source, quantization: str, backend: str
) -> dict[str, Any]:
    dimensions = int(model.get_embedding_dimension() or 0)
    own_prompts = {name: prompt for name, prompt in model.prompts.items() if prompt}
    config = model[0].auto_model.config
    family = family_of(config.model_type)
    smaller = tuple(size for size in family.sizes if size < dimensions)
    return {
        "model_id": source.model_id,
        "revision": source.revision,
        "architecture": config.model_type,
        "backend": backend,
        "quantization": quantization if backend == "native" else "fp32",
        "dimensions": dimensions,
        "matryoshka": (dimensions, *smaller),
        "max_tokens": max_tokens(model),
        "prompts": family.prompts(own_prompts),
    }


class Prepared:
    """The model that is being prepared, opened to embed the texts of the self-check."""

    def __init__(self, target: Path, fields: Fields) -> None:
        self.fields = fields
        self._tokenizer = Tokenizer.from_file(target / TOKENIZER_FILE)
        self._engine = NativeEngine(target / WEIGHTS_FILE, num_threads=available_threads())

    def vectors(self, cases: Sequence[Case]) -> Vectors:
        """(n_texts, dimensions)."""
        limit = self.fields["max_tokens"]
        tokens = [
            self._tokenizer.encode([text], prompt=prompt, max_tokens=limit)[0].ids
            for prompt, text in cases
        ]
        return self._engine.forward(tokens)


def _golden(prepared: Prepared) -> Fields:
    model_id, prompts = prepared.fields["model_id"], prepared.fields["prompts"]
    golden = family_of(prepared.fields["architecture"]).golden.get(model_id)
    if golden is None:
        return {}
    if not {"query", "document"} <= set(prompts):
        raise VerificationError(
            f"{model_id} has no query and document prompts: fetch it again, with its "
            "config_sentence_transformers.json; nothing was saved"
        )
    query = prepared.vectors([(prompts["query"], golden.query)])
    documents = prepared.vectors([(prompts["document"], text) for text in golden.documents])
    found = verify.golden_similarities(golden, query, documents)
    published = {"published": list(golden.similarities), "source": golden.source}
    return {"golden": {"found": found, **published}}


def _cases(prompts: Mapping[str, str]) -> list[Case]:
    """Every sentence without a prompt, eight with each of two prompts, and one too long text."""
    prompted = [
        (prompts[name], text)
        for name in ("query", "document")
        if name in prompts
        for text in SENTENCES[:8]
    ]
    return [*(("", text) for text in SENTENCES), *prompted, ("", long_text())]


def original_vectors(model: SentenceTransformer, cases: Sequence[Case]) -> Vectors:
    """(n_texts, dimensions) through sentence-transformers, one text at a time, L2-normalised."""
    rows = [
        model.encode(text, prompt=prompt, show_progress_bar=False)
        for prompt, text in tqdm(cases, desc="original vectors", unit="text", leave=False)
    ]
    return normalise(np.stack(rows).astype(np.float32))


def _write_tokenizer(model: SentenceTransformer, target: Path) -> None:
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelConfigError(
            "the model has no tokenizer.json: load its tokenizer with transformers' AutoTokenizer "
            "and save it again, or choose another model"
        )
    tokenizer = without_special_pieces(backend.to_str())
    (target / TOKENIZER_FILE).write_text(tokenizer, encoding="utf-8")
