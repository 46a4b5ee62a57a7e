"""A tokenizer of every kind that a model may have."""

from pathlib import Path

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from embedder.prepare.sentences import SENTENCES, long_text
from embedder.prepare.tokenizer_file import without_special_pieces
from lab import gemma_tokenizer

WORDS = 2_000
KINDS = ("wordpiece", "cased", "gemma3", "small-gemma", "unigram", "byte-level")

_BETWEEN = processors.TemplateProcessing(
    single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
)


def of_kind(kind: str, *, starter: Path, small_gemma: Path, directory: Path) -> Path:
    """A `tokenizer.json` by kind; `starter` and `small_gemma` are those of prepared models."""
    if kind in ("wordpiece", "small-gemma"):
        return starter if kind == "wordpiece" else small_gemma
    file = directory / f"{kind}.json"
    if kind == "gemma3":
        return gemma_tokenizer.fetch(file)
    make = {"cased": _cased, "unigram": _unigram, "byte-level": _byte_level}[kind]
    made = make(tokenizers.Tokenizer.from_file(str(starter)))
    file.write_text(without_special_pieces(made.to_str()), encoding="utf-8")
    return file


def _cased(starter: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Like that of cased BERT, which keeps accents and capitals."""
    starter.normalizer = normalizers.BertNormalizer(lowercase=False)
    return starter


def _unigram(_: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Like that of XLM-R: marks the start, drops repeated spaces, joins unknown characters."""
    made = tokenizers.Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=WORDS, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator([*SENTENCES, long_text(4)], trainer)
    made.post_processor = _BETWEEN
    return made


def _byte_level(_: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Like those of RoBERTa and ModernBERT: BPE over bytes, words split by a regular expression."""
    made = tokenizers.Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([*SENTENCES, long_text(4)], trainer)
    made.post_processor = _BETWEEN
    return made
