"""Files and batches of users on a disk."""

from pathlib import Path

import pytest

from batches.directory import Directory
from batches.errors import (
    FileInUseError,
    FileTooLargeError,
    NoSuchBatchError,
    NoSuchFileError,
    StorageFullError,
    StoreClosedError,
    TooManyBatchesError,
    UserStorageFullError,
)
from batches.space import LEAST
from batches.store import MAX_UNFINISHED, Store
from errors import ConfigurationError
from lab.signing import Clock
from tests.batches.echo import (
    MB,
    Echo,
    created,
    finished,
    make_quota,
    make_store,
    make_work,
    uploaded,
)
from tests.batches.echo import lines_of as lines


async def test_a_file_is_there_for_its_owner_alone(store: Store) -> None:
    file = await uploaded(store, b"hello")
    assert store.files.get("anna", file.id) is file
    assert store.directory.content(file.id).read_bytes() == b"hello"
    for user, file_id in (("bert", file.id), ("anna", "file-" + "0" * 32), ("anna", "../lock")):
        with pytest.raises(NoSuchFileError):
            store.files.get(user, file_id)
    assert store.files.of("bert") == []


async def test_a_batch_is_there_for_its_owner_alone(store: Store) -> None:
    batch = await created(store, lines("a"))
    assert store.get("anna", batch.id) is batch
    with pytest.raises(NoSuchBatchError):
        store.get("bert", batch.id)
    assert store.of("bert") == []


async def test_nobody_else_on_the_machine_can_read_anything(store: Store) -> None:
    await created(store, lines("a"))
    paths = [store.directory.path, *store.directory.path.rglob("*")]
    assert len(paths) >= 6
    assert not [path for path in paths if path.stat().st_mode & 0o077]


async def test_a_start_finds_what_another_process_has_left(store: Store, clock: Clock) -> None:
    batch = await created(store, lines("a"))
    held = store.space.held
    store.close()
    other = make_store(store.directory.path, clock)
    await other.open()
    assert other.get("anna", batch.id) == batch
    assert [file.id for file in other.files.of("anna")] == [batch.input_file_id]
    assert other.space.held == held
    other.close()


async def test_one_process_at_a_time_has_the_directory(store: Store) -> None:
    other = Directory(store.directory.path)
    assert not other.lock()
    store.close()
    assert other.lock()
    other.unlock()


async def test_nothing_is_found_before_the_directory_is_open(tmp_path: Path, clock: Clock) -> None:
    store = make_store(tmp_path / "new", clock)
    with pytest.raises(StoreClosedError):
        store.of("anna")
    with pytest.raises(StoreClosedError):
        _ = store.files


async def test_a_file_over_the_limit_leaves_nothing(store: Store) -> None:
    with pytest.raises(FileTooLargeError):
        await uploaded(store, b"x" * (MB + 1))
    assert store.space.held == 0
    assert list((store.directory.path / "files").iterdir()) == []


@pytest.mark.parametrize(
    ("bounds", "error"),
    [
        ({"per_user": 2 * LEAST}, UserStorageFullError),
        ({"total": 2 * LEAST}, StorageFullError),
    ],
)
async def test_small_files_count_too_and_deleting_one_makes_room(
    tmp_path: Path, clock: Clock, bounds: dict[str, int], error: type[Exception]
) -> None:
    store = make_store(tmp_path / "b", clock, **bounds)
    await store.open()
    file = await uploaded(store, b"1")
    await uploaded(store, b"2")
    with pytest.raises(error):
        await uploaded(store, b"3")
    await store.delete(file)
    await uploaded(store, b"3")
    store.close()


async def test_a_deleted_file_counts_until_nobody_reads_it(store: Store) -> None:
    file, kept = await uploaded(store, b"1"), await uploaded(store, b"2")
    with store.files.reading(kept):
        with store.files.reading(file) as path, path.open("rb") as opened:
            with store.files.reading(file):
                await store.delete(file)
            assert (opened.read(), path.exists()) == (b"1", False)
            assert store.space.held == 2 * LEAST
        assert store.space.held == LEAST
    assert store.space.held == LEAST


async def test_what_grows_over_the_users_limit_leaves_nothing(tmp_path: Path, clock: Clock) -> None:
    store = make_store(tmp_path / "b", clock, per_user=3 * LEAST)
    await store.open()
    with pytest.raises(UserStorageFullError, match="Delete files"):
        await uploaded(store, b"x" * (3 * LEAST + 1))
    await uploaded(store, b"x" * (3 * LEAST))
    store.close()


async def test_the_input_of_a_batch_is_deleted_only_after_its_end(store: Store, echo: Echo) -> None:
    batch = await created(store, lines("a"))
    file = store.files.get("anna", batch.input_file_id)
    with pytest.raises(FileInUseError, match=batch.id):
        await store.delete(file)
    await finished(make_work(store, echo, make_quota()), batch)
    await store.delete(file)
    assert not store.directory.content(file.id).exists()


async def test_files_and_batches_are_deleted_after_a_time_but_not_what_is_in_use(
    store: Store, echo: Echo, clock: Clock
) -> None:
    done = await created(store, lines("a"))
    await finished(make_work(store, echo, make_quota()), done)
    open_one = await created(store, lines("b"))
    clock.now += 3_601
    await store.sweep()
    assert [batch.id for batch in store.of("anna")] == [open_one.id]
    assert [file.id for file in store.files.of("anna")] == [open_one.input_file_id]
    assert store.space.held == 2 * LEAST


async def test_a_start_removes_what_no_record_names(store: Store, clock: Clock) -> None:
    batch = await created(store, lines("a"))
    kept = store.directory.content(batch.output_file_id)
    kept.write_bytes(b"answers so far")
    orphan = store.directory.content("file-" + "1" * 32)
    unfinished = orphan.with_name(orphan.name + ".unfinished")
    for path in (orphan, unfinished):
        path.write_bytes(b"rest")
    store.close()
    other = make_store(store.directory.path, clock)
    await other.open()
    assert (kept.exists(), orphan.exists(), unfinished.exists()) == (True, False, False)
    other.close()


async def test_a_record_that_cannot_be_read_does_not_end_the_start(
    store: Store, clock: Clock
) -> None:
    batch = await created(store, lines("a"))
    (store.directory.path / "records" / f"{batch.id}.json").write_bytes(b'{"id": ')
    store.close()
    other = make_store(store.directory.path, clock)
    await other.open()
    assert other.of("anna") == []
    other.close()


async def test_a_user_has_a_bounded_number_of_batches_that_are_not_finished(store: Store) -> None:
    file = await uploaded(store, lines("a"))
    for _ in range(MAX_UNFINISHED):
        batch = await store.create(
            file, caller="user", endpoint="/v1/embeddings", window="24h", seconds=60, metadata=None
        )
    with pytest.raises(TooManyBatchesError):
        await store.create(
            file, caller="user", endpoint="/v1/embeddings", window="24h", seconds=60, metadata=None
        )
    batch.reach("failed", 0)
    await store.create(
        file, caller="user", endpoint="/v1/embeddings", window="24h", seconds=60, metadata=None
    )


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        ("", "has other files"),
        ("missing/below", "is in a directory that does not exist"),
        ("file", "cannot be written"),
        ("file/below", "is in a directory that does not exist"),
    ],
)
def test_a_directory_of_others_or_that_cannot_be_made_is_refused_with_the_reason(
    tmp_path: Path, place: str, fault: str
) -> None:
    (tmp_path / "file").write_text("of others")
    with pytest.raises(ConfigurationError, match=f"BATCH_DIRECTORY: .* {fault}"):
        Directory(tmp_path / place).check()
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_a_directory_that_is_empty_or_to_be_made_or_was_used_before_is_taken(
    tmp_path: Path,
) -> None:
    for path in (tmp_path, tmp_path / "new"):
        directory = Directory(path)
        directory.check()
        directory.prepare()
        directory.check()
        (path / "new").exists() or directory.lock()
        directory.unlock()
        break
    Directory(tmp_path.parent / "new").check()
