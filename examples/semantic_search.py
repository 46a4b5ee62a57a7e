"""Semantic search: vectors in PostgreSQL with pgvector, as Supabase has it.

    JWT_TOKEN=... DATABASE_URL=postgresql://... python examples/semantic_search.py QUESTION [URL]

Each passage is stored twice: as 16-bit floats (`halfvec`), which order exactly, and as one bit a
dimension (`bit`), 16 times smaller, which finds candidates fast. Needs pgvector 0.7 or newer.
"""

import os
import sys

import psycopg
from openai import OpenAI

PASSAGES = [
    "An orchestra rehearses a symphony in the concert hall.",
    "The central bank raised interest rates to slow inflation.",
    "Knead the dough, let it rise, then bake the bread for forty minutes.",
    "The striker scored twice and the home team won the match.",
    "Solar panels turn sunlight into electricity.",
    "The guitarist tuned her strings before the show.",
]
SCHEMA = """
create extension if not exists vector;
create table if not exists passages (
    id bigint generated always as identity primary key,
    text text not null unique,
    fingerprint text not null,
    embedding halfvec({dimensions}) not null,
    bits bit({dimensions}) generated always as (binary_quantize(embedding)::bit({dimensions})) stored
);
create index if not exists passages_bits on passages using hnsw (bits bit_hamming_ops);
"""
# 40 candidates by Hamming distance over the bits, then in the order of the cosine distance.
SEARCH = """
with question as (select %s::halfvec({dimensions}) as vector), candidates as (
    select * from passages
    order by bits <~> (select binary_quantize(vector)::bit({dimensions}) from question) limit 40
)
select text, 1 - (embedding <=> vector) as similarity from candidates, question order by similarity desc limit 3
"""


class Embedder:
    """The service, with the prompt that the model has for each side of a search."""

    def __init__(self, url: str, token: str) -> None:
        self.client = OpenAI(base_url=f"{url}/v1", api_key=token)
        self.names = [model.id for model in self.client.models.list()]

    def embed(
        self, texts: list[str], task: str, fingerprint: str | None = None
    ) -> tuple[list[list[float]], str]:
        """A vector a text, and the fingerprint of their vector space.

        Raises openai.ConflictError when that is not the `fingerprint` asked for: vectors of two do not mix.
        """
        model = next((name for name in self.names if name.endswith(f"-{task}")), self.names[0])
        headers = {"If-Fingerprint": fingerprint} if fingerprint else {}
        answer = self.client.embeddings.with_raw_response.create(
            model=model, input=texts, extra_headers=headers
        )
        vectors = [item.embedding for item in answer.parse().data]
        return vectors, answer.headers["X-Embedding-Fingerprint"]


def store(database: psycopg.Connection, embedder: Embedder, passages: list[str]) -> None:
    vectors, fingerprint = embedder.embed(passages, "document")
    database.execute(SCHEMA.format(dimensions=len(vectors[0])))
    rows = [
        (text, fingerprint, str(vector)) for text, vector in zip(passages, vectors, strict=True)
    ]
    with database.cursor() as cursor:
        cursor.executemany(
            "insert into passages (text, fingerprint, embedding) values (%s, %s, %s) on conflict do nothing",
            rows,
        )
    database.commit()


def search(
    database: psycopg.Connection, embedder: Embedder, question: str
) -> list[tuple[str, float]]:
    """The three nearest passages and their cosine similarities."""
    [(fingerprint,)] = database.execute("select distinct fingerprint from passages").fetchall()
    [vector], _ = embedder.embed([question], "query", fingerprint)
    return database.execute(SEARCH.format(dimensions=len(vector)), [str(vector)]).fetchall()


def main(question: str, url: str) -> None:
    embedder = Embedder(url, os.environ["JWT_TOKEN"])
    with psycopg.connect(os.environ["DATABASE_URL"]) as database:
        store(database, embedder, PASSAGES)
        for text, similarity in search(database, embedder, question):
            print(f"{similarity:.3f} {text}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8000")
