"""A sentence-transformers directory to a prepared model: export, quantise, verify."""

import gc
import logging
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from embedder.errors import ModelConfigError, VerificationError
from embedder.model import Engine
from embedder.onnx_engine import OnnxEngine
from embedder.postprocess import Vectors, normalise
from embedder.prepare import verify
from embedder.prepare.export import export, packed_module
from embedder.prepare.gemma import check_window
from embedder.prepare.quantise import quantise
from embedder.prepare.sentences import SENTENCES, long_text
from embedder.prepare.source import Source, read_config
from embedder.profile import GRAPH_FILE, TOKENIZER_FILE, TORCH_DIRECTORY, Profile, sha256_file
from embedder.threads import available_threads
from embedder.tokens import Tokenizer

MATRYOSHKA: Mapping[str, tuple[int, ...]] = {"gemma3_text": (512, 256, 128)}  # by architecture, from its model card
VERIFY_BATCH_TOKENS = 512
Case = tuple[str, str]  # prompt, text


def load_original(source: Source) -> SentenceTransformer:
    """In fp32 on the CPU, whatever precision its files have. Raises ModelConfigError."""
    config = read_config(source.directory)
    model = SentenceTransformer(
        str(source.directory), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
    )
    model.float().eval()
    if model.tokenizer.truncation_side != "right":
        raise ModelConfigError(f"{source.model_id} cuts texts on the left, which is not supported")
    if config.get("use_bidirectional_attention"):
        check_window(config["sliding_window"], model[0].auto_model.config.sliding_window)
    model.max_seq_length = max_tokens(model)
    return model


def max_tokens(model: SentenceTransformer) -> int:
    """The lower of what the directory asks for and what the positions allow."""
    transformer = model[0].auto_model
    limit = int(transformer.config.max_position_embeddings)
    if transformer.config.model_type in {"roberta", "xlm-roberta", "camembert"}:
        limit -= int(transformer.config.pad_token_id) + 1
    return min(int(model.max_seq_length or limit), limit)


def build(source: Source, target: Path, *, quantization: str, backend: str) -> Profile:
    """Fill `target` with graph, weights and tokenizer; the returned profile is not yet saved.

    Raises UnsupportedModelError, ModelConfigError, VerificationError.
    """
    _quiet()
    builders = {"onnx": _build_onnx, "torch": _build_torch}
    with tqdm(total=5, desc="prepare", unit="step") as steps:
        model = load_original(source)
        (target / TOKENIZER_FILE).write_text(_tokenizer_json(model), encoding="utf-8")
        fields = _describe(model, source, quantization, backend)
        steps.update()
        verification = builders[backend](model, source, target, fields, steps)
    files = {
        path.relative_to(target).as_posix(): sha256_file(path) for path in sorted(target.rglob("*")) if path.is_file()
    }
    return Profile(**fields, files=files, verification=verification)


def _describe(model: SentenceTransformer, source: Source, quantization: str, backend: str) -> dict[str, Any]:
    dimensions = int(model.get_sentence_embedding_dimension() or 0)
    config = model[0].auto_model.config
    smaller = tuple(size for size in MATRYOSHKA.get(config.model_type, ()) if size < dimensions)
    sliding = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    return {
        "model_id": source.model_id,
        "revision": source.revision,
        "architecture": config.model_type,
        "backend": backend,
        "quantization": quantization if backend == "onnx" else "fp32",
        "dimensions": dimensions,
        "matryoshka": (dimensions, *smaller),
        "max_tokens": max_tokens(model),
        "window": int(config.sliding_window) if sliding else None,
        "prompts": {name: prompt for name, prompt in model.prompts.items() if prompt},
    }


def _build_torch(
    model: SentenceTransformer, source: Source, target: Path, fields: Mapping[str, Any], steps: Any
) -> dict[str, Any]:
    shutil.copytree(source.directory, target / TORCH_DIRECTORY, ignore=shutil.ignore_patterns("onnx", "openvino"))
    steps.update(4)
    return {"texts": 0, "note": "the original itself; nothing to compare"}


def _build_onnx(
    model: SentenceTransformer, source: Source, target: Path, fields: Mapping[str, Any], steps: Any
) -> dict[str, Any]:
    """The original is freed before the graph is loaded: both in memory would double the peak."""
    cases = _cases(fields["prompts"])
    reference = original_vectors(model, cases)
    steps.update()
    exact = target / ("fp32.onnx" if fields["quantization"] != "fp32" else GRAPH_FILE)
    export(packed_module(model, source.model_id, fields["max_tokens"]), exact, source.model_id)
    del model
    gc.collect()
    steps.update()
    tokenizer = Tokenizer.from_file(target / TOKENIZER_FILE)
    vectors = graph_vectors(_engine(exact, fields), tokenizer, cases, fields["max_tokens"])
    agreement = verify.compare(vectors, reference)
    verify.check(agreement, "fp32", "sentence-transformers")
    report: dict[str, Any] = {"texts": len(cases), "fp32_to_original": asdict(agreement)}
    steps.update()
    if fields["quantization"] != "fp32":
        report |= _quantise(exact, target, fields, tokenizer, cases, vectors)
    report |= _golden(_engine(target / GRAPH_FILE, fields), tokenizer, fields)
    steps.update()
    return report


def _quantise(
    exact: Path,
    target: Path,
    fields: Mapping[str, Any],
    tokenizer: Tokenizer,
    cases: Sequence[Case],
    exact_vectors: Vectors,
) -> dict[str, Any]:
    quantization = fields["quantization"]
    quantise(exact, target / GRAPH_FILE, quantization)
    for path in (exact, exact.with_name(f"{exact.name}.data")):
        path.unlink()
    vectors = graph_vectors(_engine(target / GRAPH_FILE, fields), tokenizer, cases, fields["max_tokens"])
    agreement = verify.compare(vectors, exact_vectors)
    verify.check(agreement, quantization, "fp32")
    return {f"{quantization}_to_fp32": asdict(agreement)}


def _golden(engine: Engine, tokenizer: Tokenizer, fields: Mapping[str, Any]) -> dict[str, Any]:
    golden = verify.GOLDEN.get(fields["model_id"])
    if golden is None:
        return {}
    prompts = fields["prompts"]
    if not {"query", "document"} <= set(prompts):
        raise VerificationError(f"{fields['model_id']} came without its query and document prompts")
    query = graph_vectors(engine, tokenizer, [(prompts["query"], golden.query)], fields["max_tokens"])
    documents = graph_vectors(
        engine, tokenizer, [(prompts["document"], text) for text in golden.documents], fields["max_tokens"]
    )
    found = verify.check_golden(golden, query, documents)
    return {"golden": {"found": found, "published": list(golden.similarities), "source": golden.source}}


def _cases(prompts: Mapping[str, str]) -> list[Case]:
    """Every sentence bare, a few behind each of the two usual prompts, and one text longer than the model reads."""
    prompted = [(prompts[name], text) for name in ("query", "document") if name in prompts for text in SENTENCES[:8]]
    return [*(("", text) for text in SENTENCES), *prompted, ("", long_text())]


def original_vectors(model: SentenceTransformer, cases: Sequence[Case]) -> Vectors:
    """(n_texts, dimensions) through sentence-transformers, one text at a time, L2-normalised."""
    rows = [
        model.encode(text, prompt=prompt, show_progress_bar=False)
        for prompt, text in tqdm(cases, desc="original vectors", unit="text", leave=False)
    ]
    return normalise(np.stack(rows).astype(np.float32))


def graph_vectors(engine: Engine, tokenizer: Tokenizer, cases: Sequence[Case], limit: int) -> Vectors:
    """The same texts through a prepared graph, several to a pack."""
    tokens = [tokenizer.encode([text], prompt=prompt, max_tokens=limit)[0] for prompt, text in cases]
    return engine.embed([text.ids for text in tokens])


def _engine(path: Path, fields: Mapping[str, Any]) -> Engine:
    return OnnxEngine(
        path, num_threads=available_threads(), batch_tokens=VERIFY_BATCH_TOKENS, window=fields["window"]
    )


def _tokenizer_json(model: SentenceTransformer) -> str:
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelConfigError("the model has no fast tokenizer (tokenizer.json)")
    text: str = backend.to_str()
    return text


def _quiet() -> None:
    """The exporter logs every operator it has no torchvision for; none of it is the user's business."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"torch\.|onnxscript\.|copyreg")
