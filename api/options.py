"""Options of a request: field types that the request bodies of all dialects share.

Type aliases with a name of their own stand in the OpenAPI document under that name, where
`api/openapi.py` narrows those that depend on the model or on a setting.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

import bentoml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from typing_extensions import TypeAliasType

from api.errors import InvalidBodyError
from embedder.overflow import ERROR, OVERFLOWS, TRUNCATE, Overflow

MOST_TEXTS = 4096  # the largest MAX_TEXTS_PER_REQUEST
MAX_CHARACTERS = 2**20  # per text: tokenising one takes up to 2 s where it makes no tokens
MAX_FIELDS = 64  # per body; a field that is not known is compared with those that are
ASK_FOR_TEXTS = (
    "token ids are not texts: this model has another vocabulary. Send strings "
    "(with LangChain: OpenAIEmbeddings(..., check_embedding_ctx_length=False))"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one body may hold; the validation context of every body.

    `max_texts` is MAX_TEXTS_PER_REQUEST. The types do not have it: they exist before settings do.
    """

    max_texts: int

    @property
    def max_values(self) -> int:
        """JSON values: texts, titles and options, and as many that `/v1/embeddings` ignores."""
        return 4 * self.max_texts + 1024


def _within_limits(value: Any, info: ValidationInfo) -> Any:
    """Raises ValueError for a list of more texts or titles than the service takes."""
    limits: Limits | None = info.context
    if limits is not None and isinstance(value, list) and len(value) > limits.max_texts:
        raise ValueError(
            f"{len(value)} items, and the limit is {limits.max_texts} per request: send several "
            "requests"
        )
    return value


def _listed(value: Any) -> Any:
    """A string stands for a list with that string. Raises ValueError for what is neither."""
    if value is not None and not isinstance(value, str | list | tuple):
        raise ValueError("send one string, or a list of strings")
    return [value] if isinstance(value, str) else value


def _without_token_ids(value: Any) -> Any:
    """Raises ValueError for token ids, which OpenAI accepts and LangChain sends by default."""
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, list) and first and isinstance(first[0], str):
        raise ValueError("a list inside the list: send the texts as one list of strings")
    if isinstance(first, int | list):
        raise ValueError(ASK_FOR_TEXTS)
    return value


def sized(text: str) -> str:
    """Raises ValueError for a text that is empty or too long.

    pydantic's own check would keep a second copy of the text, in UTF-8.
    """
    if not text:
        raise ValueError("the text is empty: send at least 1 character")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(
            f"the text has {len(text)} characters and the limit is {MAX_CHARACTERS}: split it"
        )
    return text


def _one_or_many(item: dict[str, Any], **bounds: int) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [item, {"type": "array", "items": item, **bounds}]})


_TEXT = {"type": "string", "minLength": 1, "maxLength": MAX_CHARACTERS}
Text = Annotated[str, AfterValidator(sized), WithJsonSchema(_TEXT)]
ListWithinLimits = BeforeValidator(_within_limits)
Texts = Annotated[
    list[Text],
    Field(min_length=1, max_length=MOST_TEXTS, fail_fast=True),
    ListWithinLimits,
]
TextOrTexts = Annotated[
    Texts,
    BeforeValidator(_listed),
    BeforeValidator(_without_token_ids),
    _one_or_many(_TEXT, minItems=1, maxItems=MOST_TEXTS),
]
_Title = Annotated[str, Field(max_length=1000)] | None
Titles = TypeAliasType(
    "Titles",
    Annotated[
        list[_Title],
        Field(max_length=MOST_TEXTS, fail_fast=True),
        ListWithinLimits,
        BeforeValidator(_listed),
        _one_or_many({"type": ["string", "null"], "maxLength": 1000}, maxItems=MOST_TEXTS),
    ]
    | None,
)
Task = TypeAliasType("Task", Annotated[str, Field(max_length=64)] | None)
Dimensions = TypeAliasType("Dimensions", Annotated[int, Field(ge=1)] | None)
ModelName = TypeAliasType("ModelName", Annotated[str, Field(max_length=256)])
_Encoding = Literal["float", "base64", "int8", "binary"]
Encoding = Annotated[_Encoding, WithJsonSchema({"enum": [*get_args(_Encoding), None]})]
Switch = Annotated[bool, WithJsonSchema({"type": ["boolean", "null"]})]
LongTexts = Annotated[Overflow, WithJsonSchema({"enum": [*OVERFLOWS, None]})]


class Body(bentoml.IODescriptor):
    """A request body: strict JSON types, no unknown fields; null counts as left out."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _left_out(cls, value: Any, info: ValidationInfo) -> Any:
        """Clients send null for options that their caller did not set."""
        field = cls.model_fields[info.field_name or ""]
        return field.get_default() if value is None and not field.is_required() else value


class LongTextOptions(Body):
    """What is done with long texts: `overflow`, and the `truncate` of a route.

    `meanings` has what each value of `truncate` says. An API with other values than ours overrides
    both.
    """

    meanings: ClassVar[Mapping[Any, Overflow]] = {True: TRUNCATE, False: ERROR}

    overflow: LongTexts | None = Field(
        None,
        description="What is done with a text over the model's limit: `truncate` cuts it there, "
        "which is the default; `error` answers 422; `average` reads it in windows, and averages "
        "their vectors by their tokens",
    )
    truncate: Switch | None = Field(
        None, description="true is `overflow: truncate`, and false is `overflow: error`"
    )

    @property
    def long_texts(self) -> Overflow:
        """What is done with a text over the limit."""
        return self.overflow or self.meanings.get(self.truncate, TRUNCATE)

    @property
    def located(self) -> bool:
        """Whether the answer says where each token lies in its text."""
        return False

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """With what `_agree` checks."""
        schema = handler(core_schema)
        whole = handler.resolve_ref_schema(schema)
        agreeing = _agreeing(cls.meanings)
        whole["oneOf"] = [_both(a, b) for a in whole.get("oneOf", [{}]) for b in agreeing]
        return schema

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Raises InvalidBodyError where `overflow` and `truncate` contradict each other."""
        told = self.meanings.get(self.truncate, self.overflow)
        if self.overflow not in (None, told):
            raise InvalidBodyError(
                f"truncate: it says {told!r}, and overflow says {self.overflow!r}. "
                "Leave truncate out",
                param="truncate",
            )
        return self


def _agreeing(meanings: Mapping[Any, Overflow]) -> list[JsonSchemaValue]:
    """What `truncate` and `overflow` may say together, as schemas of which one holds.

    Absent counts as null.
    """
    alike: dict[Overflow, list[Any]] = {}
    for value, meant in meanings.items():
        alike.setdefault(meant, []).append(value)
    return [
        {"properties": {"truncate": {"type": "null"}}},
        {
            "required": ["truncate"],
            "properties": {"truncate": {"enum": [*meanings]}, "overflow": {"type": "null"}},
        },
        *(
            {
                "required": ["truncate", "overflow"],
                "properties": {"truncate": {"enum": values}, "overflow": {"const": meant}},
            }
            for meant, values in alike.items()
        ),
    ]


def _both(one: JsonSchemaValue, other: JsonSchemaValue) -> JsonSchemaValue:
    """A schema of what two schemas of other fields allow.

    Not as allOf: BentoML's schema of a route takes the first item of that for the whole, and of
    anyOf too.
    """
    required = [*one.get("required", []), *other.get("required", [])]
    properties = one.get("properties", {}) | other.get("properties", {})
    return {"properties": properties} | ({"required": required} if required else {})


class TaskOptions(LongTextOptions):
    """How texts are read."""

    task: Task = Field(
        None, description="What the texts are for; picks the model's prompt. Without: no prompt"
    )


class DocumentOptions(TaskOptions):
    """How texts are read that may be documents."""

    title: Titles = Field(
        None,
        description="Title of a document: one for all texts, or one per text; null or blank for "
        "none",
    )


class VectorOptions(DocumentOptions):
    """How texts are read, and how vectors come back."""

    dimensions: Dimensions = Field(
        None, description="Cut vectors to this size (Matryoshka) and normalise them again"
    )
    encoding_format: Encoding = Field(
        "float",
        description="`float`; `base64` of little-endian float32; `int8`, each vector scaled so "
        "that its largest value is 127; `binary`, one bit per dimension (set where positive), "
        "eight per number",
    )
