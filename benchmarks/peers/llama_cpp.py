"""llama.cpp in Q8_0, through the C interface of llama-cpp-python."""

import ctypes
import json
from collections.abc import Sequence

import gguf
import llama_cpp
import numpy as np
from safetensors.numpy import load_file

from benchmarks.peers import BATCH_TOKENS, Embed, Ids, Matrix
from lab.models import FULL_SIZE, HOME

PACKAGE = "llama-cpp-python"
MODEL = HOME / "llama-cpp-q8_0.gguf"
DENSE = {"dense_2": "2_Dense", "dense_3": "3_Dense"}
Q8_0 = gguf.GGMLQuantizationType.Q8_0
MOST_TOKENS = 2048  # per pack, so that the longest text fits
MOST_TEXTS = 64  # per pack


def prepare() -> None:
    """Convert the model: matrices in Q8_0, norms in fp32 plus the 1 that Gemma's code adds."""
    if MODEL.exists():
        return
    unfinished = MODEL.with_suffix(".unfinished")
    writer = gguf.GGUFWriter(unfinished, "gemma-embedding")
    layers = _describe(writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA_EMBEDDING, layers)
    tensors = {
        f"model.{name}": value for name, value in load_file(FULL_SIZE / "model.safetensors").items()
    }
    for name, directory in DENSE.items():
        dense = load_file(FULL_SIZE / directory / "model.safetensors")["linear.weight"]
        writer.add_dense_features_dims(name, dense.shape[1], dense.shape[0])
        tensors[f"{name}.weight"] = dense
    for name, value in tensors.items():
        gguf_name = names.get_name(name, try_suffixes=(".weight",))
        if value.ndim == 2:
            writer.add_tensor(gguf_name, gguf.quants.quantize(value, Q8_0), raw_dtype=Q8_0)
        else:
            writer.add_tensor(gguf_name, 1 + value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.rename(MODEL)


def _describe(writer: gguf.GGUFWriter) -> int:
    """Write the metadata of the model; returns its number of layers."""
    config = json.loads((FULL_SIZE / "config.json").read_text(encoding="utf-8"))
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["full_attention"]["rope_theta"])
    writer.add_sliding_window(config["sliding_window"])
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")  # it is given token ids
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    return int(config["num_hidden_layers"])


def load(threads: int) -> Embed:
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(
        str(MODEL).encode(), llama_cpp.llama_model_default_params()
    )
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = MOST_TOKENS
    options.n_seq_max = MOST_TEXTS
    options.n_threads = options.n_threads_batch = threads
    options.embeddings = options.kv_unified = True
    options.pooling_type = llama_cpp.LLAMA_POOLING_TYPE_MEAN
    context = llama_cpp.llama_init_from_model(model, options)
    batch = llama_cpp.llama_batch_init(MOST_TOKENS, 0, 1)
    width = llama_cpp.llama_n_embd(model)

    def run(texts: Sequence[Ids]) -> Matrix:
        _fill(batch, texts)
        if llama_cpp.llama_encode(context, batch):
            raise RuntimeError("llama_encode failed")
        vectors = np.stack([
            np.ctypeslib.as_array(llama_cpp.llama_get_embeddings_seq(context, row), (width,))
            for row in range(len(texts))
        ])  # fmt: skip
        normalised: Matrix = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return normalised

    def embed(token_ids: Sequence[Ids]) -> Matrix:
        return np.concatenate([run(pack) for pack in _packs(token_ids)])

    return embed


def _packs(token_ids: Sequence[Ids]) -> list[list[Ids]]:
    """Texts in packs without padding, in the given order."""
    packs: list[list[Ids]] = [[]]
    for text in token_ids:
        full = sum(map(len, packs[-1])) + len(text) > BATCH_TOKENS or len(packs[-1]) == MOST_TEXTS
        if packs[-1] and full:
            packs.append([])
        packs[-1].append(text)
    return packs


def _fill(batch: "llama_cpp.llama_batch", texts: Sequence[Ids]) -> None:
    lengths = [len(text) for text in texts]
    total = sum(lengths)
    np.ctypeslib.as_array(batch.token, (total,))[:] = np.concatenate(texts)
    np.ctypeslib.as_array(batch.pos, (total,))[:] = np.concatenate(
        [np.arange(length) for length in lengths]
    )
    np.ctypeslib.as_array(batch.n_seq_id, (total,))[:] = 1
    ctypes.memset(batch.logits, 1, total)
    for token, row in enumerate(np.repeat(np.arange(len(texts)), lengths)):
        batch.seq_id[token][0] = int(row)
    batch.n_tokens = total
