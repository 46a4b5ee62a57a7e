"""The report of a prepared model, for people: `make model-info`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from embedder.profile import PROFILE_FILE, Profile
from embedder.tasks import main_names

HEADS: Mapping[str, str] = {  # of the fields of an agreement
    "mean_cosine": "mean",
    "p1_cosine": "1 %",
    "min_cosine": "least",
    "rank_correlation": "ranks",
    "recall_at_10": "recall",
}
LEGEND = """\
Each size and encoding is compared with the same of the original in fp32; for binary, a cosine is
1 - 2 * the share of bits that differ. "1 %" is the 1st percentile of the cosines, "ranks"
Spearman's correlation of the similarities of all pairs, "recall" the share of each text's 10
nearest that are the same. "of full": the same for the nearest by the original's vectors of full
size in fp32, which is what a smaller size or another encoding costs."""


def report(tag: str, directory: Path, profile: Profile) -> str:
    """What a prepared model is, and how close it is to its original."""
    lines = [*_identity(tag, directory, profile), ""]
    found = profile.verification
    if "outputs" in found:
        lines += [*_quality(found["outputs"], found["texts"]), "", LEGEND, ""]
        lines += _kinds(found["least_by_kind"])
    elif profile.backend == "torch":
        lines += ["The original itself runs, so there is nothing to compare."]
    else:
        lines += ["An earlier version prepared it, without this report: make model FORCE=1"]
    if golden := found.get("golden"):
        lines += ["", f"Similarities published in the {golden['source']}:"]
        lines += [_row("", ["published", *map(_figure, golden["published"])])]
        lines += [_row("", ["found", *map(_figure, golden["found"])])]
    return "\n".join(lines)


def _identity(tag: str, directory: Path, profile: Profile) -> Iterator[str]:
    rows = {
        "model": f"{profile.model_id}, revision {profile.revision}",
        "runs as": f"{profile.architecture}, {profile.quantization}, {profile.backend} backend",
        "fingerprint": profile.fingerprint,
        "reads": f"{profile.max_tokens:,} tokens",
        "sizes": ", ".join(map(str, profile.matryoshka)),
        "tasks": ", ".join(main_names(profile.tasks)) or "none",
        "profile": str(directory / PROFILE_FILE),
    }
    yield tag
    for name, value in rows.items():
        yield f"  {name:<12} {value}"


def _quality(outputs: Sequence[Mapping[str, Any]], n_texts: int) -> Iterator[str]:
    yield f"Agreement with the original on {n_texts} texts"
    yield _row("", [*HEADS.values(), "of full"])
    for output in outputs:
        figures = [_figure(output["agreement"][name]) for name in HEADS]
        name = f"{output['dimensions']} {output['encoding']}"
        yield _row(name, [*figures, _figure(output["recall_of_original"])])
        yield _row("  at least", [_figure(output["floor"][name]) for name in HEADS])


def _kinds(least_by_kind: Mapping[str, float]) -> Iterator[str]:
    yield "Least cosine by kind of text, in ascending order"
    for kind, cosine in sorted(least_by_kind.items(), key=lambda item: item[1]):
        yield _row(kind, [_figure(cosine)])


def _figure(value: float) -> str:
    return f"{value:.6f}"


def _row(name: str, cells: Sequence[str]) -> str:
    return f"  {name:<22}" + "".join(f"{cell:>10}" for cell in cells)
