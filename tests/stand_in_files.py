"""What the stand-ins of the full profile's repositories have in common: files by name, and vocabularies learnt here."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

Files = dict[str, bytes]  # A repository's, by name.


def byte_pairs(texts: Iterable[str], size: int, end_of_word: str = "") -> tuple[dict[str, int], list[str]]:
    """Return vocabulary and merges of a byte-pair encoding learnt from ``texts``; with an end of word, as CLIP's."""
    suffix = {"end_of_word_suffix": end_of_word} if end_of_word else {}
    tokenizer = Tokenizer(models.BPE(**suffix))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if end_of_word:
        words = pre_tokenizers.Split(Regex(r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"), "removed", invert=True)
        as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, as_bytes])
        texts = [text.lower() for text in texts]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False, **suffix)
    tokenizer.train_from_iterator(texts, trainer)
    merges = [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    # Every byte is a token, also where it ends a word, whether it was met or not.
    tokens = [*alphabet, *(letter + end_of_word for letter in alphabet if end_of_word)]
    tokens += ["".join(pair.split(" ")) for pair in merges]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}, merges


def never_fetched(*names: str) -> Files:
    return dict.fromkeys(names, b"")


def as_json(content: object) -> bytes:
    return json.dumps(content, indent=2, ensure_ascii=False).encode()


def merges_file(merges: list[str]) -> bytes:
    return "\n".join(["#version: 0.2", *merges, ""]).encode()
