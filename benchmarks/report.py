"""The arguments of a benchmark, and the file of its results."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.figures import machine
from lab.results import RESULTS


def arguments(name: str, description: str | None) -> argparse.Namespace:
    """Parse `--json PATH`, by default benchmarks/results/NAME.json, and `--quick`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, default=RESULTS / f"{name}.json")
    parser.add_argument("--quick", action="store_true")
    return parser.parse_args()


def save(path: Path, figures: Mapping[str, Any]) -> None:
    """Write and print figures, with the machine that they were measured on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine(), **figures}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    print(text)
