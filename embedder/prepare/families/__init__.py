"""Model families, one file each. A new one is a module here with a `FAMILY`, listed below."""

from embedder.prepare.families import bert, embedding_gemma2, gemma3
from embedder.prepare.families.family import Family

FAMILIES = (gemma3.FAMILY, embedding_gemma2.FAMILY, bert.FAMILY)
OTHER = Family()  # for the torch backend alone


def family_of(architecture: str) -> Family:
    """The family of a `model_type`, or `OTHER`."""
    return next((family for family in FAMILIES if architecture in family.architectures), OTHER)


def native_architectures() -> tuple[str, ...]:
    """Every `model_type` that the native engine runs."""
    with_engine = [family for family in FAMILIES if family.native]
    return tuple(name for family in with_engine for name in family.architectures)


def is_gated(model_id: str) -> bool:
    """Whether the hub gives a model to accounts alone that accepted its licence."""
    return any(model_id in family.gated for family in FAMILIES)
