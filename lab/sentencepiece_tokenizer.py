"""A small tokenizer like that of XLM-R: a unigram model, words marked by their first character."""

from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from embedder.prepare.sentences import SENTENCES, long_text

WORDS = 2_000
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0 to 3, as in XLM-R
MASK = "<mask>"


def write(directory: Path) -> int:
    """Write the tokenizer to `directory`, and return the number of its words."""
    tokenizer = Tokenizer(models.Unigram())
    # XLM-R's own normaliser is a compiled table, which is nearly NFKC.
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=WORDS, special_tokens=[*SPECIAL], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([*SENTENCES, long_text(4)], trainer)
    tokenizer.add_special_tokens([MASK])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )  # fmt: skip
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token=MASK,
    ).save_pretrained(str(directory))
    return tokenizer.get_vocab_size()
