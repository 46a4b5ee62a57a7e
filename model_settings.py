"""Settings of the model, the engine and the cache."""

from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from setting_types import Aliases, Backend


class ModelSettings(BaseSettings):
    """Field names in capitals are the names of variables; descriptions are for the documents."""

    model_name: str | None = Field(
        None,
        description="Model to serve: unset for the starter model all-MiniLM-L6-v2, "
        "`google/embeddinggemma-300m` (needs `HF_TOKEN`), `google/embeddinggemma-2`, or a "
        "sentence-transformers directory",
    )
    model_quantization: Literal["int8", "fp16", "fp32"] = Field(
        "int8", description="Precision of the weights; fp16 is 16-bit storage with fp32 arithmetic"
    )
    model_backend: Backend = Field(
        "native",
        description="`native`, or `torch` for a model that the native engine cannot run; "
        "the image has no torch",
    )
    native_kernel: str | None = Field(
        None,
        pattern=r"^[a-z0-9_-]+$",
        description="Instruction set of the native engine; unset for the best that the CPU has",
    )
    model_aliases: Aliases = Field(
        "",
        description="More names of the model, separated by commas, for clients whose model name is "
        "fixed; `text-embedding-3-small=query` sets a task too",
    )
    hf_token: SecretStr | None = Field(
        None, description="Hugging Face token for gated models; read only when one is prepared"
    )

    max_batch_tokens: int = Field(
        256,
        ge=16,
        le=65536,
        description="Tokens in one forward pass; with more, bulk work is faster, and queries "
        "wait longer",
    )
    max_batch_size: int = Field(32, ge=1, le=1024, description="Texts in one forward pass")
    max_seq_length: int = Field(
        2048,
        ge=8,
        le=131072,
        description="Tokens kept of one text; the model's own limit if that is lower",
    )
    num_threads: int | None = Field(
        None, ge=1, le=256, description="Compute threads; unset for the CPU quota"
    )
    max_queue_tokens: int = Field(
        1_048_576,
        ge=1,
        le=10**9,
        description="Tokens of all users waiting; beyond it those with more than a few queries "
        "waiting get 503 with `Retry-After`, beyond twice as many everybody",
    )
    max_user_queue_tokens: int = Field(
        524_288,
        ge=1,
        le=10**9,
        description="Tokens of one user waiting, 64 at least for each text: beyond it 429 with "
        "`Retry-After`, and 413 for one request with more",
    )
    cache_bytes: int = Field(
        67_108_864, ge=0, le=10**12,
        description="Memory for vectors of texts embedded before; 0: every text is computed",
    )  # fmt: skip
    cache_scope: Literal["user", "all"] = Field(
        "user", description="Whose texts count as embedded before: the user's own, or everybody's"
    )
    cache_precision: Literal["float32", "float16"] = Field(
        "float32", description="Form of kept vectors; float16 takes half the space and rounds"
    )
    cache_redis_bytes: int | None = Field(
        None, ge=1_048_576, le=10**12,
        description="Memory for vectors in Redis, for all processes; needs `CACHE_SECRET`",
    )  # fmt: skip
    cache_ttl: int = Field(
        86_400, ge=1, le=31_536_000, description="Seconds that Redis keeps a vector"
    )
    cache_secret: SecretStr | None = Field(
        None,
        min_length=32,
        description="Secret that names of vectors in Redis are made with, at least 32 characters",
    )
    engine_timeout: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="Seconds a forward pass may take; beyond that the worker is restarted",
    )

    @field_validator("max_user_queue_tokens")
    @classmethod
    def _within_total(cls, tokens: int, others: ValidationInfo) -> int:
        total = others.data.get("max_queue_tokens", tokens)
        if tokens > total:
            raise ValueError(f"should not be above MAX_QUEUE_TOKENS, which is {total}")
        return tokens
