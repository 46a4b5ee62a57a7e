"""Every row: what is sent, by how many users, under which limit."""

from collections.abc import Callable
from functools import partial

from api.pages import DOCS_PATHS
from hostile import bodies
from hostile.api_rows import CACHE, OTHER_APIS, WINDOWS
from hostile.attacks import (
    VICTIM,
    Flood,
    LargeHead,
    Leave,
    Silent,
    SlowBody,
    Trickle,
    Unread,
)
from hostile.bodies import MB, of_items, of_text, of_texts
from hostile.row import ALIAS, DEFAULT, Row, post
from hostile.wire import Call


def _text(piece: str) -> Callable[[], bytes]:
    return partial(of_text, piece, truncate=False)


TEXTS = {
    "dots": Row(
        "1 MB of dots, `/embed`, truncate false, at the default limit",
        post("/embed", _text(bodies.DOTS)),
        per_minute=DEFAULT,
    ),
    "dots-64": Row(
        "1 MB of dots, `/embed`, 64 at once",
        post("/embed", partial(of_text, bodies.DOTS)),
        users=4,
    ),
    "spaces": Row("1 MB of spaces", post("/embed", _text(bodies.SPACES))),
    "emoji": Row("1 MB of emoji", post("/embed", _text(bodies.EMOJI))),
    "combining": Row("1 MB of combining marks", post("/embed", _text(bodies.COMBINING))),
    "hangul": Row("1 MB of Hangul", post("/embed", _text(bodies.HANGUL))),
    "word": Row("one word of 1 MB", post("/embed", _text(bodies.WORD))),
    "openai-dots": Row(
        "1 MB of dots, `/v1/embeddings`",
        post("/v1/embeddings", partial(of_text, bodies.DOTS, field="input", model=ALIAS)),
    ),
    "similarity-dots": Row(
        "1 MB of dots against one text, `/similarity`",
        post("/similarity", partial(of_text, bodies.DOTS, texts=("x",))),
    ),
    "tokenize-dots": Row(
        "1 MB of dots, `/tokenize`, 64 at once",
        post("/tokenize", partial(of_texts, bodies.DOTS, n=1, size=MB)),
        users=4,
    ),
    "batch-2048": Row(
        "the largest body, 2,048 texts of dots, `/batch-embed`",
        post("/batch-embed", partial(of_texts, bodies.DOTS, n=bodies.MAX_TEXTS)),
    ),
    "tokenize-2048": Row(
        "the largest body, 2,048 texts of words, `/tokenize`",
        post("/tokenize", partial(of_texts, bodies.WORDS, n=bodies.MAX_TEXTS)),
    ),
    "long-title": Row(
        "a title of 1,000 characters for 1,999 texts (11 KB), `/batch-embed`",
        post("/batch-embed", partial(bodies.of_titles, 1_999, 1_000)),
        titles=True,
    ),
}
BODIES = {
    "title-numbers": Row(
        "title [1,1,...], `/embed`", post("/embed", partial(of_items, "1", "title", text="x"))
    ),
    "title-numbers-default": Row(
        "title [1,1,...], three users at the default limit",
        post("/embed", partial(of_items, "1", "title", text="x")),
        users=3,
        per_minute=DEFAULT,
    ),
    "title-texts": Row(
        'title ["","",...], `/batch-embed`',
        post("/batch-embed", partial(of_items, '""', "title", texts=("x",))),
    ),
    "keys": Row(
        "unknown keys, as many as fit, `/embed`",
        post("/embed", partial(bodies.of_keys, text="x")),
    ),
    "user-lists": Row(
        "user [[],[],...], `/v1/embeddings`",
        post("/v1/embeddings", partial(of_items, "[]", "user", input="x", model=ALIAS)),
    ),
    "input-numbers": Row(
        "input [1,1,...], `/v1/embeddings`",
        post("/v1/embeddings", partial(of_items, "1", "input", model=ALIAS)),
    ),
    "short-texts": Row(
        'texts ["a","a",...], the largest body, `/batch-embed`',
        post("/batch-embed", partial(of_items, '"a"', "texts")),
    ),
    "same-key": Row("the same key again and again, `/embed`", post("/embed", bodies.of_one_key)),
    "nesting": Row(
        "lists within lists, `/embed`", post("/embed", partial(bodies.of_depth, "title", text="x"))
    ),
    "digits": Row(
        "an integer as long as the body, `/embed`",
        post("/embed", partial(bodies.of_digits, "dimensions", text="x")),
    ),
    "integers": Row(
        "4,300-digit integers, `/similarity`",
        post("/similarity", partial(of_items, "9" * 4_300, "texts")),
    ),
    "escapes": Row(
        "a text of \\u escapes, `/embed`",
        post("/embed", partial(bodies.of_escapes, bodies.ESCAPE, size=bodies.LARGEST)),
    ),
    "pairs": Row(
        "a text of escaped surrogate pairs, `/embed`",
        post("/embed", partial(bodies.of_escapes, bodies.PAIR, size=bodies.LARGEST)),
    ),
    "no-json": Row("the largest body, no JSON, `/embed`", post("/embed", bodies.no_json)),
}
CONNECTIONS = {
    "slow-bodies": Row(
        "4 accounts x 64 bodies, one byte per second",
        SlowBody(Call("/embed"), connections=64, length=1_000),
        users=4,
    ),
    "stalled-bodies": Row(
        "4 accounts x 16 large bodies that stop half-way; the victim sends 100 KB",
        SlowBody(
            Call("/embed"),
            connections=16,
            length=bodies.LARGEST,
            first=bodies.LARGEST // 2,
            drop=0,
        ),
        users=4,
        victim="large",
    ),
    "leaving": Row(
        "batches of 1,000 texts, disconnected after 0.2 s, 40 at once, at the default limit",
        Leave(Call("/batch-embed", partial(bodies.of_passages, 1_000, 1_000)), 40, 0.2),
        per_minute=DEFAULT,
    ),
    "leaving-often": Row(
        "the same, without a limit",
        Leave(Call("/batch-embed", partial(bodies.of_passages, 1_000, 1_000)), 40, 0.2),
    ),
    "unread": Row(
        "2,048 vectors that are not read, 16 answers per account, 2 accounts",
        Unread(Call("/batch-embed", partial(of_texts, "x", n=bodies.MAX_TEXTS, size=0)), 16),
        users=2,
        seconds=8.0,
    ),
    "header-lines": Row(
        "100 MB of header lines, 4 connections",
        LargeHead(100 * MB, b"X: 1\r\n", connections=4),
    ),
    "header-value": Row(
        "one header of 100 MB, 4 connections",
        LargeHead(100 * MB, b"x", start=b"GET /embed HTTP/1.1\r\nX: ", connections=4),
    ),
    "request-line": Row(
        "one path of 100 MB, 4 connections",
        LargeHead(100 * MB, b"x", start=b"GET /", connections=4),
    ),
    "slow-heads": Row("1,000 heads, one byte per second", Silent(1_000, drip=True)),
    "idle": Row("1,000 idle connections", Silent(1_000)),
    "pipelined": Row(
        "32 requests at once on each of 16 connections, `/embed`",
        post("/embed", partial(of_text, bodies.WORDS, size=40), depth=32),
    ),
}
STRANGERS = {
    "openapi": Row(
        "`/openapi.json`, 64 connections", Flood((Call("/openapi.json"),), 64, bearer="nobody")
    ),
    "schema": Row(
        "`/schema.json`, 64 connections", Flood((Call("/schema.json"),), 64, bearer="nobody")
    ),
    "docs": Row(
        "the documentation's files, 64 connections",
        Flood(tuple(map(Call, DOCS_PATHS)), 64, bearer="nobody"),
    ),
    "metrics": Row("`/metrics`, 64 connections", Flood((Call("/metrics"),), 64, bearer="nobody")),
    "paths": Row(
        "unknown paths, 64 connections",
        Flood((Call("/nothing"), Call("/v1//embeddings")), 64, bearer="nobody"),
    ),
    "models": Row("`/v1/models` by a user, 64 connections", Flood((Call("/v1/models"),), 64)),
    "usage": Row("`/usage` by a user, 64 connections", Flood((Call("/usage"),), 64)),
}
TOKENS = {
    "neighbour": Row(
        "60 bad tokens, then two per second, of the address of the victim, whose tokens are new",
        Trickle(Call("/usage")),
        fresh_tokens=True,
        seconds=4.0,
    ),
    "bad-tokens": Row(
        "bad tokens, 64 connections of one address",
        Flood((Call("/usage"),), 64, bearer="forged"),
    ),
    "bad-tokens-many": Row(
        "bad tokens, 64 connections of 65,536 addresses",
        Flood((Call("/usage"),), 64, bearer="forged", address=""),
    ),
    "neighbour-flood": Row(
        "bad tokens, 64 connections of the address of the victim, whose tokens are new",
        Flood((Call("/usage"),), 64, bearer="forged", address=VICTIM),
        fresh_tokens=True,
    ),
    "large-tokens": Row(
        "tokens of 9 KB, 64 connections", Flood((Call("/usage"),), 64, bearer="too large")
    ),
    "key-ids": Row(
        "made-up key ids while the key server hangs, 600 connections",
        Flood((Call("/usage"),), 600, bearer="made-up key", address=""),
        hanging_keys=True,
        fresh_tokens=True,
        seconds=5.0,
    ),
}
BULK = partial(bodies.of_passages, 1_000, 1_000, "input", model=ALIAS)
WORK = {
    "over-limit": Row(
        "sentences at the default limit, most of them refused, 16 connections",
        post("/embed", partial(of_text, bodies.WORDS, size=40)),
        per_minute=DEFAULT,
    ),
    "calls": Row(
        "short texts at full speed, 16 connections",
        post("/embed", partial(of_text, bodies.WORDS, size=40)),
    ),
    "bulk": Row(
        "LangChain's batch of 1,000 x 1,000 characters, one user",
        post("/v1/embeddings", BULK, connections=1),
        seconds=6.0,
    ),
    "bulk-ten": Row(
        "the same, ten users",
        post("/v1/embeddings", BULK, connections=1),
        users=10,
        seconds=6.0,
    ),
    "similarity": Row(
        "256 texts with one another, 16 connections, `/similarity`",
        post("/similarity", partial(bodies.sentences, 256)),
    ),
    "tokenize": Row(
        "2,048 sentences, 16 connections, `/tokenize`",
        post("/tokenize", partial(bodies.sentences, 2_048)),
    ),
}
GROUPS = {
    "Texts": TEXTS,
    "Windows": WINDOWS,
    "Other APIs": OTHER_APIS,
    "Cache": CACHE,
    "Bodies": BODIES,
    "Connections": CONNECTIONS,
    "Strangers and pages": STRANGERS,
    "Tokens": TOKENS,
    "Work": WORK,
}
ROWS = {name: row for rows in GROUPS.values() for name, row in rows.items()}
