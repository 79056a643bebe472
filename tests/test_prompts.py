"""A prompt that the model can read only in part is refused, and the message says which part."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from aigc_helpers.errors import ReaderError
from aigc_helpers.images import CAPTION_TOKENS, COLOURS, LANGUAGES, STYLES, build_tokenizer, check_prompt, load_emoji
from aigc_helpers.images.prompts import END, START, UNKNOWN

ENGLISH, CHINESE = "tiger, noto style, blue background", "老虎，noto 风格，蓝色背景"


@pytest.fixture(scope="module")
def captions() -> list[str]:
    emoji = load_emoji()
    return [
        emoji.caption(concept, STYLES[concept % len(STYLES)], COLOURS[concept % len(COLOURS)], language)
        for concept in range(len(emoji.names))
        for language in LANGUAGES
    ]


@pytest.fixture(scope="module")
def tokenizer(captions: list[str], tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    """Return the tokenizer as readers get it: saved, and loaded by transformers."""
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(captions, ("sks",)).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


def test_english_has_a_token_per_word_and_chinese_one_per_character(tokenizer: PreTrainedTokenizerBase) -> None:
    words = ["tiger", ",", "noto", "style", ",", "blue", "background"]
    assert tokens(tokenizer, ENGLISH) == [START, *words, END]
    # The comma of both languages is one token.
    assert tokens(tokenizer, CHINESE) == [START, *"老虎", ",", "noto", *"风格", ",", *"蓝色背景", END]
    assert tokens(tokenizer, "TIGER") == [START, "tiger", END]


def test_every_caption_is_read_whole(tokenizer: PreTrainedTokenizerBase, captions: list[str]) -> None:
    for ids in tokenizer(captions)["input_ids"]:
        assert tokenizer.unk_token_id not in ids and len(ids) <= CAPTION_TOKENS
    for caption in captions[::20]:
        check_prompt(caption, tokenizer)


def test_padding_reaches_the_length_of_the_model(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer(ENGLISH, padding="max_length")["input_ids"]
    assert len(ids) == CAPTION_TOKENS and set(ids[9:]) == {tokenizer.eos_token_id}


@pytest.mark.parametrize("prompt", ["", "  ", "\n"])
def test_an_empty_prompt_is_refused_with_examples(tokenizer: PreTrainedTokenizerBase, prompt: str) -> None:
    with pytest.raises(ReaderError, match="empty.*tiger, noto style.*老虎"):
        check_prompt(prompt, tokenizer)


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("tigre spacecraft tigre, noto style", "tigre, spacecraft"),
        ("龘龘，noto 风格", "龘"),
        ("tiger; sks", ";"),
        ("🐯 tiger", "🐯"),
    ],
)
def test_unknown_words_are_named_once_each(tokenizer: PreTrainedTokenizerBase, prompt: str, unknown: str) -> None:
    with pytest.raises(ReaderError, match=f"does not know {unknown}\\. "):
        check_prompt(prompt, tokenizer)


@pytest.mark.parametrize("word", ["tiger ", "老"])
def test_a_prompt_that_is_too_long_says_by_how_much(tokenizer: PreTrainedTokenizerBase, word: str) -> None:
    longest = CAPTION_TOKENS - 2
    check_prompt(word * longest, tokenizer)
    with pytest.raises(ReaderError, match=f"has {longest + 3} tokens.*takes {longest} at most.*Leave out 3 "):
        check_prompt(word * (longest + 3), tokenizer)


@given(
    prompt=st.lists(st.sampled_from(["tiger", "老虎", ",", "，", "blue", "xyzzy", "龘", "<|endoftext|>", "  "])).map(
        " ".join
    )
)
def test_what_is_accepted_is_what_the_tokenizer_reads_whole(tokenizer: PreTrainedTokenizerBase, prompt: str) -> None:
    found = tokens(tokenizer, prompt)[1:-1]
    readable = bool(found) and not {UNKNOWN, START, END} & set(found) and len(found) <= CAPTION_TOKENS - 2
    try:
        check_prompt(prompt, tokenizer)
    except ReaderError:
        accepted = False
    else:
        accepted = True
    assert accepted == readable
