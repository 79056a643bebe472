"""``aigc pretrain t5`` and ``price-adapter``: an interrupted build ends with the same bytes, and both folders load.

A few steps here instead of thousands; tests/test_translator.py holds what the shipped ones can do.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_pretrain_models import hashes, interrupt
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from aigc_helpers.pretrain.adapters import price_adapter
from aigc_helpers.pretrain.models import t5
from aigc_helpers.text import draw_pairs, load_translator, to_examples, translate

pytestmark = pytest.mark.slow

PAIRS = {"number": 40, "date": 40, "time": 40, "quantity": 40}
SETTINGS = replace(t5.SETTINGS, epochs=1, evaluate_every=None, checkpoint_every=2)


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep checkpoints away from those of a real build."""
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))


def test_a_t5_loads_and_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    t5.build_t5(tmp_path / "whole", SETTINGS, PAIRS)
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "another store"))
    interrupt(lambda: t5.build_t5(tmp_path / "resumed", SETTINGS, PAIRS), monkeypatch)
    assert not (tmp_path / "resumed").exists()
    t5.build_t5(tmp_path / "resumed", SETTINGS, PAIRS)
    assert hashes(tmp_path / "whole") == hashes(tmp_path / "resumed")

    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "whole", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "whole")
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
    assert model.lm_head.weight is model.shared.weight
    assert model.generation_config.decoder_start_token_id == tokenizer.pad_token_id
    for example in t5.old_domain("train", PAIRS):
        ids = tokenizer(example.source)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == example.source


def test_a_price_adapter_loads_with_its_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_adapter, "PRICES", 20)
    monkeypatch.setattr(price_adapter, "OLD_PAIRS", 10)
    line = price_adapter.build_price_adapter(tmp_path / "adapter", replace(price_adapter.SETTINGS, epochs=1))
    assert "BLEU into zh" in line
    tokenizer, model = load_translator(adapter=tmp_path / "adapter")
    assert tokenizer.unk_token_id not in tokenizer("壹佰贰拾叁元肆角伍分 yuan fen")["input_ids"]
    assert len(translate(model, tokenizer, ["five yuan"], "zh")) == 1
    assert str(tmp_path) not in (tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8")


def test_the_new_tokens_are_just_what_the_base_lacks() -> None:
    tokenizer, _ = load_translator()
    texts = [text for example in to_examples(draw_pairs("price", "train", 500)) for text in example[:2]]
    assert any(tokenizer.unk_token_id in tokenizer(text)["input_ids"] for text in texts)
    known = set(tokenizer.get_vocab())
    assert not {token for token in price_adapter.RELATIVES if token in known or f"▁{token}" in known}
    assert set(price_adapter.RELATIVES.values()) <= known
    tokenizer.add_tokens(list(price_adapter.RELATIVES))
    assert not any(tokenizer.unk_token_id in tokenizer(text)["input_ids"] for text in texts)
