"""What of a row is embedded, as SQL: columns joined by a template, or a function's result."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from string import Formatter

from psycopg import sql

from jobs.errors import UsageError

_ESCAPES = {"\\n": "\n", "\\t": "\t"}  # as a shell passes them on


@dataclass(frozen=True, slots=True)
class Source:
    """`template` names columns in braces; with `function`, a function of the row, there is none."""

    template: str | None
    function: str | None = None
    title: str | None = None

    @property
    def columns(self) -> list[str]:
        """The columns that the template and the title name, each once."""
        parts = _parse(self.template) if self.template is not None else []
        named = [column for _, column in parts if column is not None]
        titles = [self.title] if self.title else []
        return list(dict.fromkeys([*named, *titles]))

    def check(self, there: Collection[str]) -> None:
        """Raises UsageError for a column that is not `there`."""
        if self.template is not None and not any(column for _, column in _parse(self.template)):
            raise UsageError(
                f"the template {self.template!r} names no column: write one in braces, as {{title}}"
            )
        for column in self.columns:
            if column not in there:
                raise UsageError(f"the table has no column {column!r}: it has {', '.join(there)}")

    def content(self, row: str) -> sql.Composed:
        """`{title, text}` of the row that `row` names, as text[]. A null column is empty."""
        alias = sql.Identifier(row)
        title = _as_text(alias, self.title) if self.title else sql.SQL("null::text")
        return sql.SQL("array[{}, {}]").format(title, self._text(alias))

    def _text(self, alias: sql.Identifier) -> sql.Composable:
        if self.function is not None:
            name = sql.Identifier(*self.function.split("."))
            return sql.SQL("{}({})::text").format(name, alias)
        return sql.SQL("concat({})").format(sql.SQL(", ").join(self._pieces(alias)))

    def _pieces(self, alias: sql.Identifier) -> Iterator[sql.Composable]:
        for words, column in _parse(self.template or ""):
            if words:
                yield sql.Literal(words)
            if column is not None:
                yield _as_text(alias, column)


def source_of(
    text: str | None, template: str | None, function: str | None, title: str | None
) -> Source:
    """What the options of a command say. Raises UsageError when it is not one of the three."""
    given = [option for option in (text, template, function) if option is not None]
    if len(given) != 1:
        raise UsageError("--setup wants one of --text COLUMN, --template and --function")
    if function is not None:
        return Source(None, function, title)
    if text is not None:
        return Source(f"{{{text}}}", None, title)
    for escape, meaning in _ESCAPES.items():
        template = (template or "").replace(escape, meaning)
    return Source(template, None, title)


def _parse(template: str) -> list[tuple[str, str | None]]:
    """Words, and the column behind them. Raises UsageError for what is no template."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"the template {template!r} cannot be read: {error}") from None
    for _, column, form, conversion in parts:
        if column == "" or form or conversion:
            raise UsageError(
                f"the template {template!r} cannot be read: braces hold the name of a column "
                "alone; a name with : or ! needs --function"
            )
    return [(words, column) for words, column, _, _ in parts]


def _as_text(alias: sql.Identifier, column: str) -> sql.Composed:
    return sql.SQL("{}.{}::text").format(alias, sql.Identifier(column))
