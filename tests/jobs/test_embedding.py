"""One part through the real starter model, with an engine that fails on certain texts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import bentoml
import numpy as np
import pyarrow as pa
import pyarrow.json
import pytest

from embedder.model import EmbeddingModel, Engine
from embedder.postprocess import Vectors
from embedder.profile import Profile
from embedder.tokenized_text import TokenIds
from jobs import cluster, embedding
from jobs.errors import JobError
from jobs.input.parts import Part
from jobs.job import Job
from tests.jobs.conftest import MakeJob, write_jsonl

FAULTS = {"runtime": RuntimeError("\nno kernel\nat 0x1"), "memory": MemoryError()}


@pytest.fixture(scope="module")
def model(model_store: Path) -> Path:
    return Path(bentoml.models.get("all-minilm-l6-v2-fp32").path)


class Faulty:
    """An engine that fails on texts of three tokens, and returns NaN for texts of four."""

    def __init__(self, engine: Engine, fault: Exception) -> None:
        self._engine = engine
        self._fault = fault
        self.kernel = engine.kernel

    def forward(self, token_ids: Sequence[TokenIds]) -> Vectors:
        lengths = np.array([len(ids) for ids in token_ids])
        if (lengths == 3).any():
            raise self._fault
        return np.where(lengths[:, None] == 4, np.float32("nan"), self._engine.forward(token_ids))


def engine_of(directory: Path, fingerprint: str) -> embedding.Engine:
    return embedding.Engine(directory, fingerprint, threads=1, max_tokens=32, batch_tokens=256)


def run(job: Job, model: Path, fault: Exception | None) -> tuple[pa.Table, dict[str, str]]:
    """The table of the only part, and the reasons of bad rows by id."""
    job.output.location.filesystem.create_dir((job.output.location / "_bad").path)
    job = job.bound({})
    engine = engine_of(model, Profile.load(model).fingerprint)
    embedder = embedding.PartEmbedder(job, engine)
    if fault:
        loaded: EmbeddingModel = embedder._model
        embedder._model = replace(loaded, engine=Faulty(loaded.engine, fault))
    [part] = job.parts()
    counts = embedder.run(part).counts
    again = embedder.run(part)
    assert (again.counts, again.core_seconds) == (counts, 0.0)
    job.output.finish([0])
    bad = (job.output.location / "_bad_rows.jsonl").read().decode().splitlines()
    found = (
        pyarrow.json.read_json(pa.BufferReader("\n".join(bad).encode())).to_pylist() if bad else []
    )
    return job.output.table(0), {row["id"]: row["reason"] for row in found}


@pytest.fixture
def job(tmp_path: Path, make: MakeJob) -> Job:
    texts = {"a": "one two three four", "b": "word", "c": "two words", "d": "one two three four"}
    rows = [{"id": key, "text": text} for key, text in texts.items()]
    return make(write_jsonl(tmp_path / "a.jsonl", rows), "--id", "id")


def test_a_text_that_the_engine_fails_on_is_a_bad_row_and_others_are_embedded(
    job: Job, model: Path
) -> None:
    table, bad = run(job, model, FAULTS["runtime"])
    assert bad == {
        "b": "the engine fails on it (RuntimeError: no kernel)",
        "c": "the model gives no finite vector",
    }
    assert table.column("id").to_pylist() == ["a", "d"]
    first, second = table.column("embedding").to_pylist()
    assert first == second


def test_a_lack_of_memory_ends_the_job_and_is_not_blamed_on_a_text(job: Job, model: Path) -> None:
    with pytest.raises(JobError, match="no memory is left"):
        run(job, model, FAULTS["memory"])
    assert job.output.location.exists()
    assert not [info for info in job.output.location.files() if info.base_name.startswith("part-")]


def test_the_error_of_a_worker_is_one_line_with_file_and_row(
    job: Job, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = cluster.PartWorker(job, engine_of(model, Profile.load(model).fingerprint))
    [part] = job.parts()
    said = worker.run(replace(part, file=replace(part.file, format="xml"), file_row=7))
    assert said == f"{part.path}, in the rows from 7 on: KeyError: 'xml'"
    assert "belongs to another job" in str(worker.run(part))  # the output has no manifest

    def exhausted(_: Part) -> None:
        raise MemoryError

    monkeypatch.setattr(worker._parts._reader, "read", exhausted)
    assert str(worker.run(part)).startswith("no memory is left: ")


@pytest.mark.parametrize(
    ("directory", "fingerprint", "said"),
    [(None, "another", "holds another model"), ("/nowhere", "", "no prepared model in /nowhere")],
)
def test_a_worker_without_the_model_returns_the_error_for_every_part(
    job: Job, model: Path, directory: str | None, fingerprint: str, said: str
) -> None:
    place = Path(directory) if directory else model
    worker = cluster.PartWorker(job, engine_of(place, fingerprint))
    for part in job.parts() * 2:
        assert said in str(worker.run(part))
