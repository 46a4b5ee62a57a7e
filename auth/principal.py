"""Who is calling."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

USER = "user"  # the `caller` of every signed-in user
SERVICE = "service:"  # the `caller` of a service key begins with it; no user id does


@dataclass(frozen=True, slots=True)
class Principal:
    """A signed-in user, or the holder of a service key.

    Attributes:
        user_id: a UUID in lower case, with third-party auth the id as the provider writes it; the
            `caller` of a service key. Limits are counted by it.
        session_id: a UUID in lower case; None where the token names none.
        caller: "user", or "service:NAME". A label of metrics: there are as many as service keys.
        bulk: whether other work goes before this caller's.
        expires: seconds since 1970 at which the token ends.
    """

    user_id: str
    session_id: str | None = None
    is_anonymous: bool = False
    caller: str = USER
    bulk: bool = False
    expires: float = field(default=math.inf, compare=False)
