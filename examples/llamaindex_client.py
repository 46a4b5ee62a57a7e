"""Embed with LlamaIndex.

JWT_TOKEN=... python examples/llamaindex_client.py [http://127.0.0.1:8000]
"""

import os
import sys

from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from openai import OpenAI

PASSAGES = [
    "Someone plays an instrument",
    "The stock market fell today",
    "Bread is baked in an oven",
]


def main(url: str, token: str) -> None:
    model = OpenAI(base_url=f"{url}/v1", api_key=token).models.list().data[0].id
    embedder = OpenAILikeEmbedding(
        model_name=model, api_base=f"{url}/v1", api_key=token, embed_batch_size=100
    )
    question = embedder.get_query_embedding("A man is playing a guitar")
    vectors = embedder.get_text_embedding_batch(PASSAGES)
    for passage, vector in zip(PASSAGES, vectors, strict=True):
        print(f"{embedder.similarity(question, vector):.3f} {passage}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000", os.environ["JWT_TOKEN"])
