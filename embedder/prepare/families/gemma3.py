"""EmbeddingGemma: the text model of Gemma 3, with bidirectional attention."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from embedder.engine_config import EngineConfig
from embedder.prepare.calibration import Calibration
from embedder.prepare.errors import ModelConfigError
from embedder.prepare.families import gemma
from embedder.prepare.families.family import Family, Golden, NativeForm
from embedder.prepare.families.gemma import Factors
from embedder.prepare.parts import Parts, floats
from embedder.prepare.quantise import Floats
from embedder.prepare.weight import Table, Vector, Weight

MODEL_ID = "google/embeddinggemma-300m"
ARCHITECTURES = ("gemma3_text",)
# The model card, "Prompt Instructions". config_sentence_transformers.json has most of them too,
# under other names.
PROMPTS: Mapping[str, str] = {
    "query": "task: search result | query: ",
    "document": "title: none | text: ",
    "question_answering": "task: question answering | query: ",
    "fact_checking": "task: fact checking | query: ",
    "classification": "task: classification | query: ",
    "clustering": "task: clustering | query: ",
    "similarity": "task: sentence similarity | query: ",
    "code": "task: code retrieval | query: ",
}
GOLDEN = Golden(
    query="Which planet is known as the Red Planet?",
    documents=(
        "Venus is often called Earth's twin because of its similar size and proximity.",
        "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
        "Jupiter, the largest planet in our solar system, has a prominent red spot.",
        "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
    ),
    similarities=(0.3011, 0.6359, 0.4930, 0.4889),
    tolerance=0.03,  # int8 stays within it; a lost prompt or a causal mask does not
    source=f"model card, huggingface.co/{MODEL_ID}, with encode_query and encode_document",
)


def engine_config(parts: Parts, *, precision: str, max_tokens: int) -> EngineConfig:
    """Raises UnsupportedModelError."""
    _check_supported(parts)
    config = parts.config
    sliding = tuple(kind == "sliding_attention" for kind in config.layer_types)
    return EngineConfig(
        family="gemma3",
        precision=precision,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        ffn=config.intermediate_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        vocabulary=len(parts.transformer.embed_tokens.weight),
        positions=max_tokens,
        window=int(config.sliding_window) if any(sliding) else 0,
        activation="gelu_tanh",
        pooling=parts.pooling,
        dense_width=parts.dense_widths,
        dense_activation=parts.dense_activations,
        sliding=sliding,
        norm_epsilon=config.rms_norm_eps,
    )


def calibrated(parts: Parts) -> Iterator[nn.Module]:
    """One module for each product input that int8 weights are rounded for."""
    for layer in parts.transformer.layers:
        yield layer.self_attn.q_proj
        yield layer.self_attn.o_proj
        yield layer.mlp.gate_proj
        yield layer.mlp.down_proj


def weights(
    parts: Parts, calibration: Calibration, *, rotated: bool, max_tokens: int
) -> Iterator[Weight]:
    """Every tensor of the model file, in its order; the table, which may end anywhere, is last.

    The arguments are those of `NativeForm.weights`.
    """
    transformer = parts.transformer
    for index, layer in enumerate(transformer.layers):
        factors = Factors.of(layer, calibration)
        yield from gemma.layer_weights(
            f"layers.{index}", layer, calibration, factors, gain=_gain, rotated=rotated
        )
    yield Vector(name="norm", values=_gain(transformer.norm))
    yield from gemma.angles(transformer, max_tokens)
    yield from parts.dense_linears()
    words = transformer.embed_tokens
    yield Table(name="embedding", table=floats(words.weight), factor=float(words.embed_scale))


def _gain(norm: nn.Module) -> Floats:
    """Gemma 3's RMSNorm multiplies by 1 + weight."""
    return 1 + floats(norm.weight)


def _check_supported(parts: Parts) -> None:
    """Raises UnsupportedModelError for what the engine would silently compute differently."""
    expected = {
        "use_bidirectional_attention": True,  # transformers < 4.57 ignores it
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "hidden_activation": "gelu_pytorch_tanh",
    }
    gemma.check_fields(parts, expected)
    gemma.check_head_dim(parts, parts.config.head_dim)


def check_config(raw_config: Mapping[str, Any], loaded_config: Any) -> None:
    """Refuse a `sliding_window` that a save has halved. Raises ModelConfigError.

    config.json has the whole window (512), the loaded configuration one side + 1 (257). Some
    versions of transformers save the latter, so every save and load halves the window. A whole
    window is even; an odd one shows such a save.
    """
    if not raw_config.get("use_bidirectional_attention"):
        return
    raw, loaded = raw_config["sliding_window"], loaded_config.sliding_window
    if raw % 2 or loaded != raw // 2 + 1:
        raise ModelConfigError(
            f"config.json has sliding_window {raw}, loaded as {loaded}: a save has halved it; "
            "take config.json from the original model"
        )


def prompts(own: Mapping[str, str]) -> dict[str, str]:
    """An EmbeddingGemma's own prompts by name, and the others that its authors publish."""
    published = PROMPTS if own.get("query") == PROMPTS["query"] else {}
    return {**published, **own}


FAMILY = Family(
    architectures=ARCHITECTURES,
    native=NativeForm(engine_config=engine_config, calibrated=calibrated, weights=weights),
    check_config=check_config,
    sizes=gemma.SIZES,
    prompts=prompts,
    golden={MODEL_ID: GOLDEN},
    gated=frozenset({MODEL_ID}),
)
