"""Pages as they are marked on methods."""

from api.routes import marked_pages, page, pages, summary_of


class Base:
    @page("/inherited")
    def inherited(self) -> None:
        """Of a base. More of it."""


class Routes(Base):
    @page("/a", "/b", protected=True)
    def several(self) -> None:
        """Several paths.

        And more.
        """

    @page("/models/{model}", fixed=True, audience="probe")
    def named(self) -> None:
        """One of the names."""


def test_pages_of_bases_count() -> None:
    assert {found.path for found in marked_pages(Routes)} == {
        "/inherited",
        "/a",
        "/b",
        "/models/{model}",
    }


def test_a_page_keeps_what_it_was_marked_with() -> None:
    by_path = {found.path: found for found in marked_pages(Routes)}
    assert by_path["/b"].protected
    assert not by_path["/b"].fixed
    assert by_path["/a"].summary == "Several paths"
    assert by_path["/models/{model}"].audience == "probe"


def test_a_page_of_each_model_has_a_path_for_each() -> None:
    paths = [found.path for found in pages(Routes, models=["x", "y/z"])]
    assert {"/models/x", "/models/y/z"} <= set(paths)
    assert paths.count("/a") == 1


def test_a_summary_is_the_first_line() -> None:
    assert summary_of(None) == ""
    assert summary_of("\n  A line.\n\nMore.") == "A line"
