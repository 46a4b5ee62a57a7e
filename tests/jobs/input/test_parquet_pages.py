"""Valid and invalid page headers of Parquet."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import JobError
from jobs.input.parquet_pages import Page, _header, pages

TEXTS = [f"{n} " + "한국어 text " * (n % 50) for n in range(3000)]
TABLE = pa.table(
    {
        "text": TEXTS,
        "few": [text[:1] for text in TEXTS],
        "tags": [[text, None] * (n % 3) for n, text in enumerate(TEXTS)],
        "n": pa.array([None if n % 2 else n for n in range(3000)], pa.int64()),
    }
)


def of_file(path: Path) -> list[list[Page]]:
    """Pages of each column of each row group."""
    metadata = pq.read_metadata(path)
    chunks = [
        metadata.row_group(group).column(column)
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    ]
    with pa.OSFile(str(path)) as file:
        found = [list(pages(file, "a.parquet", chunk)) for chunk in chunks]
    for chunk, column in zip(chunks, found, strict=True):
        assert sum(page.values for page in column if page.kind != 2) == chunk.num_values
        assert sum(page.unpacked for page in column) <= chunk.total_uncompressed_size
        assert sum(page.packed for page in column) <= chunk.total_compressed_size
        assert not chunk.num_values or chunk.has_dictionary_page == (column[0].kind == 2)
    return found


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_dictionary": False, "data_page_size": 1000},
        {"dictionary_pagesize_limit": 1000, "row_group_size": 700},
        {"write_page_checksum": True, "write_page_index": True, "write_batch_size": 10},
        {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}},
    ],
)
def test_every_page_is_found(
    tmp_path: Path, version: str, compression: str, options: dict[str, Any]
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(TABLE, path, data_page_version=version, compression=compression, **options)
    found = of_file(path)
    delta = "column_encoding" in options
    assert {page.repeats for page in found[0]} == (
        {True} if delta else {page.kind == 2 for page in found[0]}
    )


def test_a_header_with_long_statistics_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["x" * 3000, "y" * 3000]}), path, data_page_version="2.0")
    assert len(of_file(path)[0]) == 2


def test_a_column_without_rows_has_no_pages_to_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(TABLE.slice(0, 0), path)
    assert [page for column in of_file(path) for page in column] == []


HEADER = bytes([0x15, 0, 0x15, 20, 0x15, 10, 0x2C, 0x15, 6, 0x15, 0, 0, 0])


def read(content: bytes) -> tuple[Page, int]:
    return _header(pa.BufferReader(content), "a.parquet", 0)


def test_numbers_of_a_header_are_those_written() -> None:
    assert read(HEADER + b"more") == (Page(0, 10, 5, values=3, encoding=0), len(HEADER))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        HEADER[:-1],
        HEADER.replace(bytes([0x15, 20]), bytes([0x15, 19])),  # a negative size
        HEADER.replace(bytes([0x15, 20]), bytes([0x15, *[0xFF] * 20, 0])),  # a number without end
        bytes([0x1C]) * 2000,  # structs in structs
        bytes([0x19, 0xF5]) * 100,  # a list
        bytes([0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]),  # bytes that are not there
        bytes([0]),
    ],
)
def test_an_invalid_header_is_reported(content: bytes) -> None:
    with pytest.raises(
        JobError, match=r"a\.parquet cannot be read as Parquet: a page has no header"
    ):
        read(content)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_header_or_an_error(content: bytes) -> None:
    try:
        page, length = read(content)
    except JobError:
        return
    assert length <= len(content)
    assert min(page.unpacked, page.packed, page.values) >= 0
    assert io.BytesIO(content).read(length)
