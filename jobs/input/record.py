"""What a record is: the values of one row by column, before they are checked."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from jobs.errors import RowError
from jobs.input import splitting

Record: TypeAlias = Mapping[str, Any]
Records: TypeAlias = Iterator[Record | RowError]

TOO_LONG = f"the row has more than {splitting.LONGEST >> 20} MiB"
