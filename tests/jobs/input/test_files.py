"""Finding input files, with symbolic links and URLs."""

import os
from pathlib import Path

import pytest

from jobs.errors import UsageError
from tests.jobs.conftest import MakeJob, texts


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A directory with one file, and another file outside it."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.txt").write_text("inside\n")
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "b.txt").write_text("outside\n")
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("link", "target"),
    [("b.txt", "../else/b.txt"), ("deep/b.txt", "../../else/b.txt"), ("deep/more", "../../else")],
)
def test_a_link_out_of_the_input_is_followed_only_when_asked(
    corpus: Path, make: MakeJob, link: str, target: str
) -> None:
    (corpus / link).symlink_to(target)
    with pytest.raises(
        UsageError, match=f"{link} is a symbolic link, .* allow that with --follow-links"
    ):
        make(corpus)
    assert texts(make(corpus, "--follow-links")) == ["inside", "outside"]


def test_links_to_other_formats_are_ignored(corpus: Path, make: MakeJob) -> None:
    (corpus / "notes.md").symlink_to("../else/b.txt")
    assert texts(make(corpus)) == ["inside"]


def test_circular_links_are_followed_once(corpus: Path, make: MakeJob) -> None:
    (corpus / "deep" / "up").symlink_to("..")
    (corpus / "deep" / "here").symlink_to(".")
    assert texts(make(corpus, "--follow-links")) == ["inside"]


def test_an_input_may_be_a_link(corpus: Path, make: MakeJob) -> None:
    (corpus.parent / "link").symlink_to("in")
    (corpus.parent / "c.txt").symlink_to("else/b.txt")
    assert texts(make(corpus.parent / "link")) == ["inside"]
    assert texts(make(corpus.parent / "c.txt")) == ["outside"]


@pytest.mark.parametrize("place", ["out", "link/out", "link/new/out"])
def test_an_output_inside_the_input_is_refused_also_through_links(
    corpus: Path, make: MakeJob, place: str
) -> None:
    (corpus.parent / "link").symlink_to("in/deep")
    (corpus.parent / "out").symlink_to("in/deep")
    with pytest.raises(UsageError, match="OUTPUT is inside INPUT"):
        make(corpus)  # its output is `out` beside the input
    (corpus.parent / "out").unlink()
    if place != "out":
        with pytest.raises(UsageError, match="OUTPUT is inside INPUT"):
            make_at(corpus, corpus.parent / place)


def make_at(source: Path, output: Path) -> None:
    from jobs.embed_dataset import parse
    from jobs.job import make_job

    make_job(parse([str(source), str(output)]))


@pytest.mark.parametrize("scheme", ["file://", "local://"])
def test_a_local_url_is_a_local_path(corpus: Path, scheme: str) -> None:
    with pytest.raises(UsageError, match="OUTPUT is inside INPUT"):
        make_at(corpus, Path(f"{corpus}/out"))
    from jobs.embed_dataset import parse
    from jobs.job import make_job

    with pytest.raises(UsageError, match="OUTPUT is inside INPUT"):
        make_job(parse([f"{scheme}{corpus}", f"{corpus}/out"]))


def test_only_regular_files_are_opened(corpus: Path, make: MakeJob) -> None:
    os.mkfifo(corpus / "c.txt")
    assert texts(make(corpus)) == ["inside"]
    with pytest.raises(UsageError, match="holds no file"):
        make(corpus / "c.txt")
