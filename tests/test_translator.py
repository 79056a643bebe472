"""data/t5 and data/price_adapter translate, refuse what they cannot do, and an adapter brings its own tokens.

Small numbers here; ``aigc evaluate t5`` measures all of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.paths import DATA
from aigc_helpers.text import PREFIXES, draw_pairs, load_translator, to_examples, translate
from aigc_helpers.text.translator import unknown_pieces

pytestmark = pytest.mark.slow

ADAPTER = DATA / "price_adapter"
Translator = tuple[PreTrainedTokenizerBase, PreTrainedModel]


@pytest.fixture(scope="module")
def base() -> Iterator[Translator]:
    yield load_translator()


@pytest.fixture(scope="module")
def tuned() -> Iterator[Translator]:
    yield load_translator(adapter=ADAPTER)


def share_right(translator: Translator, domain: str) -> float:
    tokenizer, model = translator
    examples = to_examples(draw_pairs(domain, "test", 60))
    right = 0
    for language, prefix in PREFIXES.items():
        chosen = [example for example in examples if example.language == language]
        written = translate(model, tokenizer, [each.source.removeprefix(prefix) for each in chosen], language)
        right += sum(text == each.target for text, each in zip(written, chosen, strict=True))
    return right / len(examples)


def test_the_base_knows_its_domain_and_no_price(base: Translator) -> None:
    assert share_right(base, "old") > 0.9
    assert share_right(base, "price") == 0


def test_the_adapter_knows_prices_and_has_not_forgotten_the_rest(tuned: Translator) -> None:
    assert share_right(tuned, "price") > 0.8
    assert share_right(tuned, "old") > 0.85


def test_each_text_is_cut_without_loss_in_both_languages(base: Translator, tuned: Translator) -> None:
    for (tokenizer, _), domain in ((base, "old"), (tuned, "old"), (tuned, "price")):
        for example in to_examples(draw_pairs(domain, "test", 200)):
            for text in example[:2]:
                if text.endswith(" minute"):
                    continue  # Both pairs with this word fell to the test: it is <unk>, as the card says.
                ids = tokenizer(text)["input_ids"]
                assert ids[-1] == tokenizer.eos_token_id and tokenizer.unk_token_id not in ids
                assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_what_is_unknown_is_named(base: Translator, tuned: Translator) -> None:
    text = "five yuan, 伍元 and 零"
    assert unknown_pieces(base[0], text) == ["yuan", "伍元"]
    assert unknown_pieces(tuned[0], text) == []


def test_order_and_neighbours_do_not_change_a_translation(base: Translator) -> None:
    tokenizer, model = base
    texts = ["three cups of tea", "March 5, 2024", "twelve"]
    assert translate(model, tokenizer, texts, "zh") == ["三杯茶", "2024年3月5日", "十二"]
    assert translate(model, tokenizer, texts[::-1], "zh", num_beams=2) == ["十二", "2024年3月5日", "三杯茶"]
    assert translate(model, tokenizer, [], "zh") == []


def test_bad_input_is_refused_with_what_to_do(base: Translator) -> None:
    tokenizer, model = base
    with pytest.raises(UnknownNameError, match="zh"):
        translate(model, tokenizer, ["one"], "de")
    with pytest.raises(ReaderError, match="a text is empty"):
        translate(model, tokenizer, ["one", "  "], "zh")
    with pytest.raises(ReaderError, match="Translate it in parts"):
        translate(model, tokenizer, ["one " * 100], "zh")
    with pytest.raises(ReaderError, match="brackets"):
        translate(model, tokenizer, "one", "zh")
    with pytest.raises(ReaderError, match="greedy"):
        translate(model, tokenizer, ["one"], "zh", num_beams=0)


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("adapter_config.json", "adapter_config.json is missing"),
        ("adapter_model.safetensors", "adapter holds no weight file"),
    ],
)
def test_an_incomplete_adapter_is_refused(tmp_path: Path, missing: str, words: str) -> None:
    folder = shutil.copytree(ADAPTER, tmp_path / "adapter")
    (folder / missing).unlink()
    with pytest.raises(ReaderError, match=words):
        load_translator(adapter=folder)


def test_an_adapter_without_its_tokens_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(ADAPTER, tmp_path / "adapter")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ReaderError, match="Put the tokenizer that it was saved with"):
        load_translator(adapter=folder)
