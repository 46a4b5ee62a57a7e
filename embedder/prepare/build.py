"""Turn a sentence-transformers directory into a prepared model: write it, then verify it."""

import errno
import gc
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import transformers
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from embedder.errors import EmbedderError
from embedder.postprocess import Vectors
from embedder.prepare.check_texts import CheckText, check_texts, prompted_texts
from embedder.prepare.errors import ModelConfigError
from embedder.prepare.families import family_of
from embedder.prepare.native import NativeModel
from embedder.prepare.original import Case, load_original, max_tokens, original_vectors
from embedder.prepare.prepared import Prepared
from embedder.prepare.published import with_published
from embedder.prepare.quality import measure
from embedder.prepare.sentences import SENTENCES, long_text
from embedder.prepare.source import Source
from embedder.prepare.text_only import text_only
from embedder.prepare.tokenizer_file import without_special_pieces
from embedder.profile import TOKENIZER_FILE, TORCH_DIRECTORY, WEIGHTS_FILE, Profile, sha256_file
from embedder.tokens import Tokenizer

STEPS = 4  # load, embed with the original, write, compare
STORE_FILE = "model.yaml"  # the model store writes it after the profile

Fields: TypeAlias = dict[str, Any]
Steps: TypeAlias = "tqdm[Any]"


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
    fields, texts, reference = _read_original(source, target, quantization, steps)
    gc.collect()
    report = check(target, fields, texts, reference)
    steps.update()
    return fields, report


def check(target: Path, fields: Fields, texts: Sequence[CheckText], reference: Vectors) -> Fields:
    """The report of a model whose files are in `target`.

    Args:
        target: weights and tokenizer.
        fields: of its profile.
        texts: to compare.
        reference: vectors of the original in fp32, (n_texts, dimensions), L2-normalised.

    Raises:
        VerificationError: a figure is below its floor.
    """
    prepared = Prepared(target, fields)
    quality = measure(
        prepared.vectors(texts),
        reference,
        kinds=[text.kind for text in texts],
        sizes=fields["matryoshka"],
        precision=fields["quantization"],
    )
    quality.require_floors(fields["quantization"])
    golden = prepared.golden()
    return quality.to_fields() | ({"golden": golden} if golden else {})


def _read_original(
    source: Source, target: Path, quantization: str, steps: Steps
) -> tuple[Fields, list[CheckText], Vectors]:
    """Everything that needs the original model, which is freed on return."""
    model = load_original(source)
    steps.update()
    _write_tokenizer(model, target)
    fields = _describe(model, source, quantization, "native")
    prepared = NativeModel(
        model, source.model_id, precision=quantization, max_tokens=fields["max_tokens"]
    )
    if quantization == "int8":
        with prepared.calibrating():
            original_vectors(model, _calibration_cases(fields["prompts"]), batch_size=1)
    names = with_published(source.model_id, _own_prompts(model))
    texts = _check_texts(Tokenizer.from_file(target / TOKENIZER_FILE), list(names))
    reference = _reference(model, source, texts)
    steps.update()
    prepared.write(target / WEIGHTS_FILE)
    steps.update()
    return fields, texts, reference


def _reference(model: SentenceTransformer, source: Source, texts: Sequence[CheckText]) -> Vectors:
    """(n_texts, dimensions). Prompts come from the original, not from the profile."""
    prompts = {"": "", **with_published(source.model_id, _own_prompts(model))}
    return original_vectors(model, [Case(prompts[text.prompt_name], text.text) for text in texts])


BUILDERS: Mapping[str, Callable[[Source, Path, str, Steps], tuple[Fields, Fields]]] = {
    "native": _build_native,
    "torch": _build_torch,
}


def _describe(
    model: SentenceTransformer, source: Source, quantization: str, backend: str
) -> dict[str, Any]:
    dimensions = int(model.get_embedding_dimension() or 0)
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
        "prompts": with_published(source.model_id, family.prompts(_own_prompts(model))),
    }


def _own_prompts(model: SentenceTransformer) -> dict[str, str]:
    return {name: prompt for name, prompt in model.prompts.items() if prompt}


def _calibration_cases(prompts: Mapping[str, str]) -> list[Case]:
    """Every sentence without a prompt, eight with each of two prompts, and one too long text."""
    prompted = [
        Case(prompts[name], text)
        for name in ("query", "document")
        if name in prompts
        for text in SENTENCES[:8]
    ]
    return [*(Case("", text) for text in SENTENCES), *prompted, Case("", long_text())]


def _check_texts(tokenizer: Tokenizer, prompt_names: Sequence[str]) -> list[CheckText]:
    """Other texts than those of the calibration, so that the check is not too kind."""

    def n_tokens(text: str) -> int:
        return tokenizer.encode([text], max_tokens=1_000_000)[0].n_tokens

    return [*check_texts(n_tokens), *prompted_texts(prompt_names)]


def _write_tokenizer(model: SentenceTransformer, target: Path) -> None:
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelConfigError(
            "the model has no tokenizer.json: load its tokenizer with transformers' AutoTokenizer "
            "and save it again, or choose another model"
        )
    tokenizer = without_special_pieces(backend.to_str())
    (target / TOKENIZER_FILE).write_text(tokenizer, encoding="utf-8")
