"""A poem must reach the model and come back without losing a character: the parser, the tokenizer and the poems."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.pretrain.models.poet import CONTEXT, LONGEST_POEM, build_model, build_tokenizer
from aigc_helpers.text import load_poems, load_regular_shi, parse_poem, run_on

SPRING = "春眠不觉晓，\n处处闻啼鸟。\n夜来风雨声，\n花落知多少。"
CHARACTERS = "春眠不觉晓处闻啼鸟夜来风雨声花落知多少"

verses = st.lists(
    st.tuples(st.text(CHARACTERS, min_size=1, max_size=9), st.sampled_from("，。？！；：")), min_size=1, max_size=8
)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer([SPRING], least_occurrences=1)


@settings(deadline=None)
@given(verses)
def test_a_poem_parses_into_its_lines_with_or_without_line_breaks(lines):
    text = "".join(words + mark for words, mark in lines)
    parsed = parse_poem(text)
    assert parsed.lines == tuple(words + mark for words, mark in lines)
    assert parsed.line_lengths == "-".join(str(len(words)) for words, _ in lines)
    assert parse_poem(str(parsed)) == parsed
    assert run_on(str(parsed)) == text


@given(st.text(CHARACTERS + "，。、 \na", max_size=20))
def test_any_text_is_parsed_whole_or_refused(text):
    try:
        parsed = parse_poem(text)
    except ReaderError as error:
        assert "not a poem" in str(error)
    else:
        assert "".join(parsed.lines) == run_on(text)


@pytest.mark.parametrize("text", ["", " \n", "春眠不觉晓", "春眠不觉晓，处处", "，春眠不觉晓。", "spring."])
def test_what_is_no_poem_is_refused(text):
    with pytest.raises(ReaderError, match="not a poem"):
        parse_poem(text)


@pytest.mark.parametrize(
    ("text", "regular"),
    [
        (SPRING, True),
        ("春眠不觉晓，处处闻啼鸟。夜来风雨声。", False),  # Three lines.
        ("春眠不觉晓，处处闻啼鸟。", False),  # Two.
        ("春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知。", False),
        ("春晓，啼鸟。风雨，花落。", False),
    ],
)
def test_regular_means_an_even_number_of_lines_of_five_or_seven(text, regular):
    assert parse_poem(text).is_regular is regular


def test_loading_gives_the_split_and_names_what_does_not_exist():
    assert set(load_poems("ci", "validation")["split"]) == {"validation"}
    with pytest.raises(UnknownNameError, match="no split 'dev'. Valid: "):
        load_poems("ci", "dev")
    with pytest.raises(UnknownNameError, match="no file of poems 'qing'. Valid: "):
        load_poems("qing", "train")


def test_regular_shi_are_what_the_parser_calls_regular_and_fit_the_context():
    table = load_regular_shi("validation", LONGEST_POEM)
    assert len(table) > 3000
    for lengths, text in zip(table["line_lengths"], table["text"], strict=True):
        parsed = parse_poem(text)
        assert parsed.is_regular
        assert parsed.line_lengths == lengths
        assert len(run_on(text)) + 2 <= CONTEXT  # With <bos> and <eos>.


def test_one_token_per_character_and_back(tokenizer):
    ids = tokenizer(SPRING)["input_ids"]
    assert len(ids) == len(run_on(SPRING)) + 1
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == run_on(SPRING)
    assert tokenizer("")["input_ids"] == [tokenizer.bos_token_id]


def test_a_rare_character_is_unknown_not_lost(tokenizer):
    ids = tokenizer("春龘晓", add_special_tokens=False)["input_ids"]
    assert len(ids) == 3
    assert ids[1] == tokenizer.unk_token_id


def test_too_rare_is_a_matter_of_the_count():
    vocabulary = build_tokenizer(["春春秋"], least_occurrences=2).get_vocab()
    assert "春" in vocabulary
    assert "秋" not in vocabulary


def test_a_new_model_has_a_row_for_every_token_and_ties_both_embeddings(tokenizer):
    model = build_model(tokenizer, seed=0)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
