"""The table of clients in `docs/clients.md`; `make docs` inserts it."""

from lab.clients import CLIENTS, Client


def client_table() -> str:
    """A Markdown table of every client: the version tested, and how it is set up."""
    lines = ["| API | Client | Version tested | Lines |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *map(_row, CLIENTS), ""])


def _row(client: Client) -> str:
    lines = "<br>".join(map(_code, (*client.lines, f"vector = {client.vector}")))
    return f"| {client.api} | {client.name} | `{client.package}` {client.version} | {lines} |"


def _code(line: str) -> str:
    """A line as code; a line with backticks needs two around it (CommonMark, section 6.1)."""
    return f"`` {line} ``" if "`" in line else f"`{line}`"
