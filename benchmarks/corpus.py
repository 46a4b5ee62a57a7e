"""Files of seeded texts, as the input of jobs."""

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from embedder.prepare.sentences import SENTENCES

LONGEST = 250  # words of a text


def texts_of(count: int, words: int) -> list[str]:
    """Different texts in many languages, from a fixed seed.

    Lengths are log-normal with `words` as their scale, and one text has LONGEST words.
    """
    chance = random.Random(0)
    vocabulary = " ".join(SENTENCES).split()
    drawn = (round(chance.lognormvariate(-0.3, 0.8) * words) for _ in range(count))
    lengths = [LONGEST, *(min(LONGEST, max(1, length)) for length in drawn)][:count]
    chosen = (chance.choices(vocabulary, k=length) for length in lengths)
    return [" ".join([f"{number}", *words]) for number, words in enumerate(chosen)]


def write_corpus(path: Path, texts: Sequence[str], first: int = 0) -> Path:
    """Write rows of `id` and `text` in the format of the suffix; Parquet in one row group."""
    rows = [{"id": str(first + number), "text": text} for number, text in enumerate(texts)]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=len(rows))
    elif path.suffix == ".jsonl":
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        path.write_text("".join(lines), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["id", "text"])
            writer.writeheader()
            writer.writerows(rows)
    return path
