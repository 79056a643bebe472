"""``aigc evaluate`` gives figures that can be trusted: right by hand on small cases, and readable in both forms."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch

from aigc_helpers.cli import main
from aigc_helpers.cli.evaluate import format_figures
from aigc_helpers.errors import ReaderError
from aigc_helpers.evaluation import share_in_form
from aigc_helpers.evaluation.poet import judge_forms
from aigc_helpers.text import LengthBatches, load_poet, mean_loss

REGULAR = "春眠不觉晓，\n处处闻啼鸟。\n夜来风雨声，\n花落知多少。"
ODD, BROKEN = "春眠，\n处处闻啼鸟。", "春眠不觉晓"


def test_a_wrong_name_is_answered_with_the_nearest(capsys):
    assert main(["evaluate", "clipp"]) == 2
    assert "there is no model to evaluate 'clipp'. Valid: clip" in capsys.readouterr().err


def test_figures_become_one_line_each():
    table = format_figures(
        {
            "test": {"poems": 3820, "perplexity": {"poet": 150.829, "4-gram": 210.6}},
            "regular_share": {"mean": 0.985, "low": 0.957, "high": 0.995},
            "irregular": ["春眠，\n晓。"],
            "model": "tiny-CLIP",
        }
    )
    names_and_values = [re.split(r" {2,}", line, maxsplit=1) for line in table.splitlines()]
    assert names_and_values == [
        ["test · poems", "3,820"],
        ["test · perplexity · poet", "150.83"],
        ["test · perplexity · 4-gram", "210.60"],
        ["regular share", "0.985 [0.957, 0.995]"],
        ["irregular", "1"],
        ["", "春眠，晓。"],
        ["model", "tiny-CLIP"],
    ]
    assert (
        len({len(line) - len(value) for line, (_, value) in zip(table.splitlines(), names_and_values, strict=True)})
        == 1
    )


def test_irregular_poems_are_counted_and_named():
    figures = judge_forms([REGULAR, ODD, BROKEN, REGULAR])
    assert (figures["poems"], figures["regular_share"]["mean"]) == (4, 0.5)
    assert figures["forms"] == {"5-5-5-5": 2}
    assert figures["irregular"] == [ODD, BROKEN]


def test_a_share_of_all_or_none_is_still_uncertain():
    every = share_in_form([REGULAR] * 30, "5-5-5-5")
    none = share_in_form([ODD, BROKEN] * 15, "5-5-5-5")
    # Wilson's bounds by hand: z² / (n + z²) from the nearer end.
    width = 1.959964**2 / (30 + 1.959964**2)
    assert (every.mean, every.low, every.high) == pytest.approx((1.0, 1 - width, 1.0))
    assert (none.mean, none.low, none.high) == pytest.approx((0.0, 0.0, width))


def test_no_poems_cannot_be_judged():
    with pytest.raises(ReaderError, match="at least one example"):
        judge_forms([])


def test_perplexity_is_the_same_alone_and_among_longer_poems():
    tokenizer, model = load_poet()
    texts = ["春眠不觉晓，处处闻啼鸟。", "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。"]
    token_ids = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in texts]
    batches = LengthBatches(token_ids, None, 2, tokenizer.pad_token_id)
    together = mean_loss(model, [batches.batch(0, 0)])
    total, predicted = 0.0, 0
    for ids in token_ids:
        with torch.no_grad():
            probabilities = model(input_ids=torch.tensor([ids])).logits[0].double().softmax(dim=1)
        total -= sum(math.log(probabilities[place, token]) for place, token in enumerate(ids[1:]))
        predicted += len(ids) - 1
    assert together == pytest.approx(total / predicted, rel=1e-4)


@pytest.mark.slow
def test_the_poet_is_below_both_baselines_and_keeps_its_lines(capsys):
    assert main(["evaluate", "poet", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    for split in ("validation", "test"):
        perplexity = figures[split]["perplexity"]
        assert perplexity["poet"] < perplexity["4-gram"] < perplexity["unigram"]
        assert figures[split]["poems"] > 3000
    samples = figures["samples"]
    assert samples["poems"] == 200
    assert samples["regular_share"]["mean"] >= 0.95
    assert sum(samples["forms"].values()) + len(samples["irregular"]) == 200


@pytest.mark.slow
@pytest.mark.parametrize("model", ["clip", "sd"])
def test_the_picture_models_print_a_table(model, capsys):
    assert main(["evaluate", model]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 5
