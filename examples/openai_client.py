"""Embed with OpenAI's own client. The Supabase access token is the API key.

JWT_TOKEN=... python examples/openai_client.py [http://127.0.0.1:8000]
"""

import os
import sys

from openai import OpenAI


def main(url: str, token: str) -> None:
    client = OpenAI(base_url=f"{url}/v1", api_key=token)
    model = client.models.list().data[0].id
    answer = client.embeddings.create(
        model=model, input=["A man is playing a guitar", "Someone plays an instrument"]
    )
    for item in answer.data:
        print(item.index, len(item.embedding), item.embedding[:3])
    print(answer.model, answer.usage.total_tokens)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000", os.environ["JWT_TOKEN"])
