"""Fields of other embedding APIs, which clients send to a route that does not have them."""

import difflib
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict, model_validator

from api.errors import InvalidBodyError
from api.options import Body, VectorOptions

# They ask for another vector, or another form of it, so they must not be ignored.
REFUSED = frozenset(
    {
        "add_special_tokens", "auto_truncate", "embedding_type", "embedding_types", "input_type",
        "instruction", "late_chunking", "max_length", "normalize", "normalize_embeddings",
        "normalized", "output_dimension", "output_dtype", "output_type", "pooling", "prefix",
        "prompt", "prompt_name", "return_multivector", "task_type", "text_type", "truncate_dim",
        "truncate_prompt_tokens", "truncation", "type",
    }
)  # fmt: skip
# All other fields are ignored; clients are known to send these.
KNOWN = frozenset(
    {
        "caching", "custom_llm_provider", "drop_params", "extra_body", "extra_headers", "metadata",
        "num_retries", "request_timeout", "safety_identifier", "service_tier", "store", "stream",
        "tags", "timeout", "user",
    }
)  # fmt: skip


class ForeignBody(Body):
    """A body of another API. Fields that it does not have are ignored.

    Not if they would change a vector, as options of our own routes do, or look like a misspelt
    field. `refused` are more fields that must not be ignored, and what to do instead.
    """

    refused: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_must_not_be_ignored(cls, body: Any) -> Any:
        fields = body if isinstance(body, dict) else {}
        for name, value in fields.items():
            if value is not None and (why := cls._complaint(name)):
                raise InvalidBodyError(f"{name[:64]}: {why}", param=name[:64])
        return body

    @classmethod
    def _complaint(cls, name: str) -> str | None:
        """Why a field cannot be ignored; None if it can, and for fields of this body."""
        ours = cls.model_fields
        if name in ours or name in KNOWN:
            return None
        if name in cls.refused:
            return cls.refused[name]
        if name in REFUSED or name in VectorOptions.model_fields:
            options = sorted(option for option, field in ours.items() if not field.is_required())
            others = f", or use {', '.join(options)}" if options else ""
            return f"it would change the vectors, and is not supported. Leave it out{others}"
        if close := difflib.get_close_matches(name[:64], ours, n=1, cutoff=0.8):
            return f"there is no such field; did you mean {close[0]}?"
        return None

    @classmethod
    def must_be_null(cls) -> list[str]:
        """Fields that this body refuses."""
        refused = REFUSED | VectorOptions.model_fields.keys() | cls.refused.keys()
        return sorted(refused - cls.model_fields.keys())


def foreign(*examples: dict[str, Any], **schema: Any) -> ConfigDict:
    """The configuration of a ForeignBody.

    Args:
        examples: bodies; `api/openapi.py` adds the model to those of a body that names one.
        schema: more of its JSON schema.
    """

    def extend(found: dict[str, Any], body: type[Any]) -> None:
        pattern = f"^({'|'.join(body.must_be_null())})$"
        found |= schema | {"examples": list(examples)}
        found["patternProperties"] = {pattern: {"type": "null"}}

    return ConfigDict(extra="ignore", json_schema_extra=extend)
