"""Options of a job mean what they mean to the service."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lab.server import Server
from tests.live import bulk


def test_options_mean_what_they_mean_to_the_service(
    gemma_directory: Path, gemma_server: Server, tmp_path: Path
) -> None:
    texts = bulk.texts(60)
    rows = [
        {"id": n, "text": text, "head": f"Title {n}", "url": {"path": f"/{n}"}, "other": 1}
        for n, text in enumerate([*texts, "word " * 3000])
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    options = (
        "--id id --title head --task document --dimensions 256 --output-type int8 --keep url "
        "--no-truncate"
    )
    more = "--threads 2 --part-rows 20 --price-per-month 730000"
    model = {"MODEL_NAME": str(gemma_directory)}
    ran = bulk.run(
        "embed_dataset",
        tmp_path / "a.parquet",
        tmp_path / "out",
        *options.split(),
        *more.split(),
        more=model,
    )
    assert ran.returncode == 3, ran.stderr

    with gemma_server.client() as client:
        body = {"texts": texts, "title": [row["head"] for row in rows[:-1]], "task": "document"}
        answer = client.post(
            "/batch-embed", json=body | {"dimensions": 256, "encoding_format": "int8"}
        ).json()
        limit = client.get("/v1/models").json()["data"][0]["max_tokens"]
    found = pq.read_table(tmp_path / "out")
    assert found.schema.field("embedding").type == pa.list_(pa.int8(), 256)
    assert found.column("embedding").to_pylist() == answer["embeddings"]
    assert found.column("tokens").to_pylist() == answer["tokens"]
    assert found.column("url").to_pylist() == [{"path": f"/{n}"} for n in range(60)]
    assert found.column_names == ["row", "id", "url", "embedding", "tokens", "windows", "truncated"]
    [bad] = map(json.loads, (tmp_path / "out" / "_bad_rows.jsonl").read_text().splitlines())
    assert (bad["id"], bad["reason"].endswith(f" tokens, the limit is {limit}")) == (60, True)
    assert_summary(
        ran.stdout,
        texts=60,
        truncated=0,
        failed=1,
        tokens=sum(answer["tokens"]),
        cores=2,
        price=730000,
    )


def test_bits_and_tasks_of_a_column_are_the_services(
    gemma_directory: Path, gemma_server: Server, tmp_path: Path
) -> None:
    texts, tasks = [*bulk.texts(20), "word " * 3000], ["query", "clustering", "document"] * 7
    rows = [{"text": text, "for": task} for text, task in zip(texts, tasks, strict=True)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = "--task-column for --output-type binary --threads 2"
    model = {"MODEL_NAME": str(gemma_directory)}
    ran = bulk.run(
        "embed_dataset", tmp_path / "a.jsonl", tmp_path / "out", *options.split(), more=model
    )
    assert ran.returncode == 0, ran.stderr

    bits, tokens = list[list[int]](), list[int]()
    with gemma_server.client() as client:
        for text, task in zip(texts, tasks, strict=True):
            body = {"texts": [text], "task": task, "encoding_format": "binary"}
            answer = client.post("/batch-embed", json=body).json()
            bits, tokens = bits + answer["embeddings"], tokens + answer["tokens"]
    found = pq.read_table(tmp_path / "out")
    assert found.column("embedding").to_pylist() == bits
    assert found.column("truncated").to_pylist() == [False] * 20 + [True]
    assert_summary(
        ran.stdout, texts=21, truncated=1, failed=0, tokens=sum(tokens), cores=2, price=None
    )


def assert_summary(
    said: str,
    *,
    texts: int,
    truncated: int,
    failed: int,
    tokens: int,
    cores: int,
    price: float | None,
) -> None:
    """The figures are those of the job, and fit each other."""
    assert said.startswith(
        f"{texts} texts ({truncated} truncated, {failed} failed) and {tokens:,} tokens in "
    )
    number = r"([\d,.]+)"
    told = rf"; {number} texts/s; {number} tokens/s; {number} tokens/s per core"
    told += r"; engine busy \d+%"
    told += rf"; about {number} for this, {number} per million tokens$" if price else "$"
    match = re.search(told, said.splitlines()[0])
    assert match, said
    rates = [float(group.replace(",", "")) for group in match.groups()]
    assert rates[1] / rates[0] == pytest.approx(tokens / texts, rel=0.1)
    assert rates[2] == pytest.approx(rates[1] / cores, rel=0.01, abs=1)
    if price:
        assert rates[4] == pytest.approx(rates[3] / tokens * 1e6, rel=0.3)
