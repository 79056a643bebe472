"""The tokenizer of captions, and what it makes of a prompt: said, not silently cut."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from aigc_helpers.errors import ReaderError

CAPTION_TOKENS = 26  # The longest caption of the data has 25, marks included.
START, END, UNKNOWN = "<|startoftext|>", "<|endoftext|>", "<|unknown|>"


def build_tokenizer(captions: Iterable[str], more_words: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """Build the tokenizer: one token per English word, Chinese character and punctuation mark, case folded.

    Padding is the end mark, as in Stable Diffusion 1.5. A Chinese comma is an English one, so that both languages share
    it. Words that are not in ``captions`` or ``more_words`` become ``<|unknown|>``; whole words make them easy to name.

    Example:
        >>> tokenizer = build_tokenizer(["tiger, noto style", "老虎，noto 风格"])
        >>> tokenizer.tokenize("Tiger，老虎")
        ['tiger', ',', '老', '虎']
    """
    tokenizer = Tokenizer(WordLevel({}, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace("，", ","), normalizers.BertNormalizer(lowercase=True, strip_accents=False)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words = {word for text in (*captions, *more_words) for word in _words(tokenizer, text)}
    vocabulary = {word: number for number, word in enumerate((START, END, UNKNOWN, *sorted(words)))}
    tokenizer.model = WordLevel(vocabulary, unk_token=UNKNOWN)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, vocabulary[START]), (END, vocabulary[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=CAPTION_TOKENS,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )


def check_prompt(prompt: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a prompt that the model could only read in part.

    Raises:
        ReaderError: it is empty, has words that the tokenizer does not know (the message names them), or more tokens
            than the model takes.

    Example:
        >>> from aigc_helpers.images import load_pipeline
        >>> tokenizer = load_pipeline().tokenizer
        >>> check_prompt("tiger, noto style, blue background", tokenizer)
        >>> check_prompt("a watercolour of a tiger", tokenizer)
        Traceback (most recent call last):
        ...
        aigc_helpers.errors.ReaderError: the model does not know watercolour. ...
    """
    if not prompt.strip():
        raise ReaderError(
            'the prompt is empty. Say what to draw, in which style and on which background: "tiger, noto style, blue '
            'background" or "老虎，noto 风格，蓝色背景".'
        )
    known = tokenizer.get_vocab()
    words = _words(tokenizer.backend_tokenizer, prompt)
    unknown = list(dict.fromkeys(word for word in words if word not in known))
    if unknown:
        raise ReaderError(
            f"the model does not know {', '.join(unknown)}. It was taught the names of emoji, three styles and ten "
            "colours, in English and Chinese; aigc generate --list prints them. Nothing was drawn."
        )
    longest = tokenizer.model_max_length - 2  # Start and end.
    if len(words) > longest:
        raise ReaderError(
            f"the prompt has {len(words)} tokens, and the model takes {longest} at most. "
            f"Leave out {len(words) - longest} or more words (in Chinese, characters)."
        )


def _words(tokenizer: Tokenizer, text: str) -> list[str]:
    normalized = tokenizer.normalizer.normalize_str(text)
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalized)]
