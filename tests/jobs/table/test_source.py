"""What of a row is embedded, as SQL."""

import psycopg
import pytest

from jobs.errors import UsageError
from jobs.table.source import Source, source_of


def content(connection: psycopg.Connection, source: Source, values: str) -> list[str | None]:
    statement = source.content("t").as_string(None)
    found = connection.execute(f"SELECT {statement} FROM (SELECT {values}) t".encode()).fetchone()
    assert found
    return list(found[0])


def test_a_template_joins_columns_and_a_null_column_is_empty(
    connection: psycopg.Connection,
) -> None:
    source = source_of(None, r"{title}\n100% {body} {{}}", None, None)
    assert source.columns == ["title", "body"]
    assert content(connection, source, "'a' AS title, 7 AS body") == [None, "a\n100% 7 {}"]
    assert content(connection, source, "NULL AS title, 'b' AS body") == [None, "\n100% b {}"]


def test_a_column_may_have_any_name_that_braces_can_hold(connection: psycopg.Connection) -> None:
    source = source_of('my "text', None, None, "the title")
    values = """'x' AS "my ""text", 'y' AS "the title\""""
    assert content(connection, source, values) == ["y", "x"]


@pytest.mark.parametrize(
    "template", ["{}", "{a", "a}", "{a:b}", "{a!r}"], ids=["none", "open", "close", "form", "repr"]
)
def test_what_is_no_template_is_told(template: str) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        source_of(None, template, None, None).check(["a"])


def test_a_template_names_columns_that_are_there() -> None:
    with pytest.raises(UsageError, match="names no column"):
        source_of(None, "words", None, None).check(["a"])
    with pytest.raises(UsageError, match="no column 'b': it has a"):
        source_of(None, "{b}", None, None).check(["a"])
    with pytest.raises(UsageError, match="one of --text"):
        source_of("a", "{a}", None, None)
