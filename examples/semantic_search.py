"""Semantic search with vectors in PostgreSQL and pgvector, as in Supabase.

    python examples/semantic_search.py QUESTION [URL] [--table NAME]

Needs JWT_TOKEN and DATABASE_URL (postgresql://...) in the environment, and pgvector 0.7 or newer.
NAME is a table that `jobs.embed_dataset --table NAME` has loaded. Without it, a few passages are
stored in an example table. Each passage has 16-bit floats (`halfvec`) for exact order, and one bit
per dimension (`bit`), 16 times smaller, to find candidates fast.
"""

import argparse
import os
import sys

import psycopg
from openai import ConflictError, OpenAI
from psycopg import sql

OWN_TABLE = "example_passages"
PASSAGES = [
    "An orchestra rehearses a symphony in the concert hall.",
    "The central bank raised interest rates to slow inflation.",
    "Knead the dough, let it rise, then bake the bread for forty minutes.",
    "The striker scored twice and the home team won the match.",
    "Solar panels turn sunlight into electricity.",
    "The guitarist tuned her strings before the show.",
]
EXTENSION = "create extension if not exists vector"
TABLE = """
create table if not exists {table} (
    id bigint generated always as identity primary key,
    text text not null unique,
    fingerprint text not null,
    embedding halfvec({dimensions}) not null,
    bits bit({dimensions}) generated always as
        (binary_quantize(embedding)::bit({dimensions})) stored
)
"""
INDEX = "create index if not exists {index} on {table} using hnsw (bits bit_hamming_ops)"
INSERT = (
    "insert into {table} (text, fingerprint, embedding) values (%s, %s, %s) on conflict do nothing"
)
FINGERPRINT = "select fingerprint from {table} limit 1"
# 200 candidates by Hamming distance of the bits, then sorted by cosine distance.
CANDIDATES = "select set_config('hnsw.ef_search', '200', true)"
SEARCH = """
with question as (select %s::halfvec({dimensions}) as vector), candidates as (
    select text, embedding from {table}
    order by bits <~> (select binary_quantize(vector)::bit({dimensions}) from question) limit 200
)
select text, 1 - (embedding <=> vector) as similarity from candidates, question
order by similarity desc limit 3
"""


class Embedder:
    """Embeds with the service, with the model's prompt for questions or for documents."""

    def __init__(self, url: str, token: str) -> None:
        self.client = OpenAI(base_url=f"{url}/v1", api_key=token)
        self.names = [model.id for model in self.client.models.list()]

    def embed(
        self, texts: list[str], task: str, fingerprint: str | None = None
    ) -> tuple[list[list[float]], str]:
        """One vector per text, and the fingerprint of their vector space.

        Raises openai.ConflictError when it is not `fingerprint`: vectors of two spaces do not mix.
        """
        model = next((name for name in self.names if name.endswith(f"-{task}")), self.names[0])
        headers = {"If-Fingerprint": fingerprint} if fingerprint else {}
        answer = self.client.embeddings.with_raw_response.create(
            model=model, input=texts, extra_headers=headers
        )
        vectors = [item.embedding for item in answer.parse().data]
        return vectors, answer.headers["X-Embedding-Fingerprint"]


class Passages:
    """A table of texts and their vectors."""

    def __init__(self, database: psycopg.Connection, name: str) -> None:
        self.database = database
        self.name = name
        self.table = sql.Identifier(*name.split("."))

    def fingerprint(self) -> str | None:
        """The fingerprint of the stored vectors, None if there are none.

        Raises psycopg.errors.UndefinedTable.
        """
        row = self.database.execute(sql.SQL(FINGERPRINT).format(table=self.table)).fetchone()
        return row[0] if row else None

    def store(self, embedder: Embedder, texts: list[str]) -> None:
        """Add texts to the table, which is created if it does not exist."""
        vectors, fingerprint = embedder.embed(texts, "document")
        size = sql.Literal(len(vectors[0]))
        self.database.execute(EXTENSION)
        self.database.execute(sql.SQL(TABLE).format(table=self.table, dimensions=size))
        index = sql.Identifier(f"{self.name}_bits")
        self.database.execute(sql.SQL(INDEX).format(table=self.table, index=index))
        if self.fingerprint() not in (None, fingerprint):
            sys.exit(other_model(self.name))
        rows = [
            (text, fingerprint, str(vector)) for text, vector in zip(texts, vectors, strict=True)
        ]
        with self.database.cursor() as cursor:
            cursor.executemany(sql.SQL(INSERT).format(table=self.table), rows)
        self.database.commit()

    def search(self, embedder: Embedder, question: str) -> list[tuple[str, float]]:
        """The three most similar passages, with their cosine similarities."""
        [vector], _ = embedder.embed([question], "query", self.fingerprint())
        size = sql.Literal(len(vector))
        self.database.execute(CANDIDATES)
        query = sql.SQL(SEARCH).format(table=self.table, dimensions=size)
        return self.database.execute(query, [str(vector)]).fetchall()


def other_model(table: str) -> str:
    return (
        f"{table} holds vectors of another model than the service's: drop it, or load another table"
    )


def main() -> None:
    parser = argparse.ArgumentParser(usage="%(prog)s QUESTION [URL] [--table NAME]")
    parser.add_argument("question")
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--table")
    options = parser.parse_args()
    embedder = Embedder(options.url, os.environ["JWT_TOKEN"])
    # No prepared statements, which a transaction pooler (Supabase's port 6543) does not support.
    with psycopg.connect(os.environ["DATABASE_URL"], prepare_threshold=None) as database:
        passages = Passages(database, options.table or OWN_TABLE)
        try:
            if not options.table:
                passages.store(embedder, PASSAGES)
            for text, similarity in passages.search(embedder, options.question):
                print(f"{similarity:.3f} {text}")
        except ConflictError:
            sys.exit(other_model(passages.name))
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
            told = str(error).splitlines()[0]
            sys.exit(
                f"{told}: load it with `python -m jobs.embed_dataset ... --table {passages.name}`"
            )


if __name__ == "__main__":
    main()
