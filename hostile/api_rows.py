"""The rows of texts in windows, of the routes of other APIs, and of the cache."""

from functools import partial

from hostile import bodies
from hostile.attacks import Flood
from hostile.bodies import of_text, of_texts
from hostile.row import ALIAS, Row, post
from hostile.wire import Call

_AVERAGE = {"overflow": "average"}
_START = {"model": ALIAS, "truncate": "START"}

WINDOWS = {
    "average-dots": Row(
        "1 MB of dots, average, `/embed`",
        post("/embed", partial(of_text, bodies.DOTS, **_AVERAGE)),
    ),
    "average-hangul": Row(
        "1 MB of Hangul, average, `/tokenize`",
        post("/tokenize", partial(of_texts, bodies.HANGUL, n=1, size=bodies.MB, **_AVERAGE)),
    ),
    "average-spaces": Row(
        "8 texts of 1 MB of spaces, average, `/batch-embed`",
        post("/batch-embed", partial(of_texts, bodies.SPACES, n=8, **_AVERAGE)),
    ),
    "average-windows": Row(
        "64 KB of dots in 250 windows, average, `/embed`",
        post("/embed", partial(of_text, bodies.DOTS, size=2**16, **_AVERAGE), connections=1),
        seconds=6.0,
    ),
}
OTHER_APIS = {
    "cohere-start": Row(
        "the largest body, 128 texts of words, START, `/v2/embed`",
        post("/v2/embed", partial(of_texts, bodies.WORDS, n=128, **_START)),
    ),
    "cohere-start-spaces": Row(
        "the largest body, 2,048 texts of spaces, START, `/v2/embed`",
        post("/v2/embed", partial(of_texts, bodies.SPACES, n=bodies.MAX_TEXTS, **_START)),
    ),
    "cohere-start-hangul": Row(
        "the largest body, 128 texts of Hangul, START, `/v2/embed`",
        post("/v2/embed", partial(of_texts, bodies.HANGUL, n=128, **_START)),
    ),
    "cohere-types": Row(
        "2,048 short texts in six encodings, `/v2/embed`",
        post("/v2/embed", partial(bodies.in_all_types, bodies.MAX_TEXTS, ALIAS)),
    ),
    "cohere-parts": Row(
        "96 inputs of as many parts as fit, `/v2/embed`",
        post("/v2/embed", partial(bodies.of_parts, 96, 30, ALIAS)),
    ),
    "ollama-dots": Row(
        "1 MB of dots, `/api/embed`",
        post("/api/embed", partial(of_text, bodies.DOTS, field="input", model=ALIAS)),
    ),
    "ollama-earlier-dots": Row(
        "1 MB of dots, `/api/embeddings`",
        post("/api/embeddings", partial(of_text, bodies.DOTS, field="prompt", model=ALIAS)),
    ),
    "ollama-show": Row(
        "`/api/show` by a user, 64 connections",
        post("/api/show", partial(of_text, "x", size=1, model=ALIAS), connections=64),
    ),
    "ollama-tags": Row(
        "`/api/tags` by a user, 64 connections", Flood((Call("/api/tags"),), connections=64)
    ),
    "tei-left": Row(
        "1 MB of Hangul, cut on the left, `/tei/embed`",
        post(
            "/tei/embed",
            partial(of_text, bodies.HANGUL, field="inputs", truncation_direction="left"),
        ),
    ),
}
CACHE = {
    "cached": Row(
        "2,048 texts that are in the cache, `/batch-embed`",
        post("/batch-embed", partial(bodies.numbers, bodies.MAX_TEXTS), connections=2),
        seconds=6.0,
        cache=True,
    ),
    "cached-types": Row(
        "the same in six encodings, `/v2/embed`",
        post("/v2/embed", partial(bodies.in_all_types, bodies.MAX_TEXTS, ALIAS), connections=2),
        seconds=6.0,
        cache=True,
    ),
    "cached-one": Row(
        "a text that is in the cache, 16 connections, `/embed`",
        post("/embed", partial(of_text, bodies.WORDS, size=40)),
        cache=True,
    ),
    "cached-windows": Row(
        "64 KB of dots whose 250 windows are in the cache, average, `/embed`",
        post("/embed", partial(of_text, bodies.DOTS, size=2**16, **_AVERAGE), connections=2),
        seconds=6.0,
        cache=True,
    ),
}
