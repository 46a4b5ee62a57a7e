"""Measure the cost of each kind of hostile input, each on a new service.

python -m hostile [ROW ...]
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from hostile.report import known, missed, save, table
from hostile.run import run
from hostile.table import ROWS
from lab.models import HOME, prepared


@cache
def environment(titles: bool) -> Mapping[str, str]:
    """Settings for the starter model in int8, or for a small Gemma model, which accepts titles."""
    name = _gemma() if titles else None
    prepared(name, "int8")
    return {"BENTOML_HOME": os.environ["BENTOML_HOME"]} | ({"MODEL_NAME": name} if name else {})


def _gemma() -> str:
    from lab.random_embeddinggemma import TINY, build

    directory = HOME / "small-embeddinggemma"
    if not (directory / "modules.json").exists():
        build(directory, replace(TINY, hidden=768, layers=6))
    return str(directory)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*ROWS, []], help="default: all")
    names = parser.parse_args().names or list(ROWS)
    results = known()
    failed = []
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            result = run(name, environment(ROWS[name].titles))
        except (subprocess.TimeoutExpired, AssertionError) as error:
            failed.append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
            continue
        results[name] = result
        print(table([result]).splitlines()[-1], flush=True)
        save({known: results[known] for known in ROWS if known in results})
        failed += [f"{name}: {target}" for target in missed(result)]
    sys.exit("\n".join(failed) or 0)


if __name__ == "__main__":
    main()
