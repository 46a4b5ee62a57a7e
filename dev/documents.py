"""Generate parts of documents and configuration from code and results; tests compare them.

python -m dev.documents
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic.fields import FieldInfo

from dev.client_table import client_table
from dev.route_lists import GENERATED, client_route_table, route_table
from dev.tables import (
    contention_table,
    engine_table,
    fairness_table,
    quality_table,
    serving_table,
    summary_table,
)
from lab.results import results
from settings import Settings

ROOT = Path(__file__).parent.parent
DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "README.ko.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "deploy" / "RUNBOOK.md",
)
QUIET = 0.85  # share of the memory limit above which the alert EmbeddingMemoryHigh fires
_BLOCK = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)
_EXAMPLES = {
    "MODEL_NAME": "google/embeddinggemma-300m",
    "HF_TOKEN": "your_huggingface_token_here",
    "SUPABASE_JWT_SECRET": "your_supabase_jwt_secret",
    "SUPABASE_URL": "http://your-supabase-url:54321",
    "SUPABASE_ANON_KEY": "your_supabase_anon_key",
    "REDIS_URL": "redis://redis:6379",
}


def settings_table() -> str:
    """A Markdown table of every setting."""
    rows = [
        f"| `{name.upper()}` | {_default(field)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(["| Name | Default | Meaning |", "| --- | --- | --- |", *rows, ""])


def sizing_table() -> str:
    """A Markdown table of speed and memory by number of cores, with the least memory limit."""
    figures = results("sizing")
    machine = figures["machine"]
    lines = [
        "| Cores | Tokens/s, texts of 128 | One query of 16 tokens | Memory at its peak | "
        "Least `MEMORY` |",
        "| ---: |" + " ---: |" * 4,
    ]
    peak = results("memory")["pss_mb"]["most"]
    for row in figures["rows"]:
        full = peak + Settings.model_fields["cache_bytes"].default / 1e6
        cells = [
            str(row["threads"]),
            f"{row['tokens_per_second_128']:,.0f}",
            f"{row['query_ms']:.0f} ms",
            f"{peak:,.0f} MB",
            f"{math.ceil(full / QUIET / 64) * 64}M",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"The speed is that of {machine['cpu']} with {', '.join(machine['instructions'])}, without",
        "the cache. The memory is that of all processes, with the tokenizer of Gemma 3; the least",
        "`MEMORY` has room for `CACHE_BYTES` too.",
    ]
    return "\n".join(lines) + "\n"


def env_example() -> str:
    """The content of `.env.example`: every setting, with its default or an example."""
    lines = [
        "# Copy to .env. Replace the examples of secrets and addresses, or delete their lines. A",
        "# setting that is commented out shows its default. docker-compose.yml lists more.",
        "",
    ]
    for name, field in Settings.model_fields.items():
        key = name.upper()
        shown = (
            f"{key}={_EXAMPLES[key]}"
            if key in _EXAMPLES
            else f"# {key}={'' if field.default is None else _text(field)}"
        )
        lines += [f"# {field.description}", shown, ""]
    return "\n".join(lines)


TABLES: Mapping[str, Callable[[], str]] = {
    "clients": client_table,
    "client_routes": client_route_table,
    "settings": settings_table,
    "contention": contention_table,
    "engine": engine_table,
    "fairness": fairness_table,
    "quality": quality_table,
    "routes": route_table,
    "serving": serving_table,
    "sizing": sizing_table,
    "summary": summary_table,
}


def with_tables(document: str) -> str:
    """Replace each table between its marks, `<!-- NAME -->` and `<!-- /NAME -->`."""
    return _BLOCK.sub(lambda match: match[1] + TABLES[match[2]]() + match[3], document)


def _default(field: FieldInfo) -> str:
    return "" if field.default in (None, "") else f"`{_text(field)}`"


def _text(field: FieldInfo) -> str:
    return str(field.default).lower() if isinstance(field.default, bool) else str(field.default)


if __name__ == "__main__":
    (ROOT / ".env.example").write_text(env_example(), encoding="utf-8")
    for file, generate in GENERATED.items():
        file.write_text(generate(file.read_text(encoding="utf-8")), encoding="utf-8")
    for document in DOCUMENTS:
        document.write_text(with_tables(document.read_text(encoding="utf-8")), encoding="utf-8")
