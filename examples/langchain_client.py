"""Embed with LangChain. `-query` and `-document` after the name of a model select its prompts.

JWT_TOKEN=... python examples/langchain_client.py [http://127.0.0.1:8000]
"""

import os
import sys

from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import OpenAIEmbeddings
from openai import OpenAI
from pydantic import SecretStr

PASSAGES = [
    "Someone plays an instrument",
    "The stock market fell today",
    "Bread is baked in an oven",
]


def main(url: str, token: str) -> None:
    names = {model.id for model in OpenAI(base_url=f"{url}/v1", api_key=token).models.list()}
    plain = min(names, key=len)

    def embeddings(task: str) -> OpenAIEmbeddings:
        return OpenAIEmbeddings(
            model=f"{plain}-{task}" if f"{plain}-{task}" in names else plain,
            openai_api_base=f"{url}/v1",
            openai_api_key=SecretStr(token),
            check_embedding_ctx_length=False,  # send texts, not token ids of OpenAI's vocabulary
        )

    store = InMemoryVectorStore(embeddings("document"))
    store.add_texts(PASSAGES)
    question = embeddings("query").embed_query("A man is playing a guitar")
    for document in store.similarity_search_by_vector(question, k=2):
        print(document.page_content)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000", os.environ["JWT_TOKEN"])
