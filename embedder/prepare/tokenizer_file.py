"""The `tokenizer.json` of a prepared model."""

import json


def without_special_pieces(tokenizer: str) -> str:
    """A `tokenizer.json` that finds no special token in a text, whatever its model.

    A Unigram model has special tokens among its pieces, and finds "<s>" in a text by itself. A
    space in front makes it a piece that no text has: Metaspace has replaced all spaces before.
    """
    content = json.loads(tokenizer)
    if content["model"]["type"] != "Unigram":
        return tokenizer
    special = {token["content"] for token in content["added_tokens"] if token["special"]}
    content["model"]["vocab"] = [
        [f" {piece}" if piece in special else piece, score]
        for piece, score in content["model"]["vocab"]
    ]
    return json.dumps(content, ensure_ascii=False)
