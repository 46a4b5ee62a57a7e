"""Fetches large files of the hub so that a broken download is continued.

The hub's client (2.4) begins a file again after its process has ended: 1.2 GB of EmbeddingGemma.
What is fetched here lies where that client looks for it.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from embedder.prepare.errors import DownloadDamagedError, DownloadRunningError
from embedder.prepare.store import require_space

LARGE = 10_000_000  # bytes


def fetch_large_files(api: Any, model_id: str, *, ending: str) -> None:
    """Fetch the large files of a model into the cache of the hub's client.

    Does nothing if the hub does not describe the model: then the client says why, or has all of it.

    Args:
        api: a HfApi.
        model_id: organisation/name.
        ending: of the names of the files.

    Raises:
        DiskFullError: there is no space for them.
        DownloadDamagedError: what came is not what the hub announced.
        DownloadRunningError: another process fetches them.
        OSError: the connection broke, or nothing can be written.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    try:
        info = api.model_info(model_id, files_metadata=True)
    except Exception:  # errors of the hub, and of its HTTP library
        return
    folder = repo_folder_name(repo_id=model_id, repo_type="model")
    blobs = Path(constants.HF_HUB_CACHE, folder, "blobs")
    locks = Path(constants.HF_HUB_CACHE, ".locks", folder)
    for file in info.siblings or ():
        if file.lfs and file.lfs.size >= LARGE and file.rfilename.endswith(ending):
            with alone(locks / f"{file.lfs.sha256}.part.lock", model_id):
                _fetch(api, info, file, blobs / file.lfs.sha256)


@contextmanager
def alone(lock: Path, model_id: str) -> Iterator[None]:
    """One process at a time: two would write the same file.

    Raises:
        DownloadRunningError: another one has the lock.
    """
    from filelock import FileLock, Timeout

    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout as error:
        raise DownloadRunningError(model_id) from error


def _fetch(api: Any, info: Any, file: Any, target: Path) -> None:
    """Fetch one file, or the rest of it."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get

    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".part")
    with unfinished.open("ab") as part:
        require_space(target.parent, file.lfs.size - part.tell())
        http_get(
            hf_hub_url(info.id, file.rfilename, revision=info.sha, endpoint=api.endpoint),
            part,
            resume_size=part.tell(),
            headers={"authorization": f"Bearer {api.token}"} if api.token else {},
            expected_size=file.lfs.size,
            displayed_filename=file.rfilename,
            tqdm_class=tqdm,
        )
    with unfinished.open("rb") as part:
        found = hashlib.file_digest(part, "sha256").hexdigest()
    if found != file.lfs.sha256:
        unfinished.unlink()
        raise DownloadDamagedError(file.rfilename)
    unfinished.rename(target)
