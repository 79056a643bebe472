"""What chapter 03 writes by hand gives the library's numbers, also on inputs that the chapter does not show.

The functions are the chapter's own, taken from its source: what a reader copies is what is tested here.
"""

from __future__ import annotations

import ast
import json
import math
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertModel,
    DataCollatorForLanguageModeling,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerBase,
)

from aigc_helpers.publishing.source import find_chapter, read_chapter
from aigc_helpers.store import install_asset
from aigc_helpers.text import LengthBatches, load_regular_shi, load_reviews, mean_loss, poem_token_ids, run_on

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def chapter() -> SimpleNamespace:
    """What the chapter imports and defines; nothing else of it is run."""
    names: dict[str, object] = {}
    for cell in read_chapter(find_chapter("03")).code_cells:
        if "exercise" in cell.tags:
            continue
        for statement in ast.parse(cell.source).body:
            if isinstance(statement, (ast.Import, ast.ImportFrom, ast.FunctionDef)):
                exec(compile(ast.Module([statement], []), "<chapter 03>", "exec"), names)
    return SimpleNamespace(**names)


@pytest.fixture(scope="module")
def wordpiece() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(install_asset("bert"))


@pytest.fixture(scope="module")
def poet() -> GPT2LMHeadModel:
    return AutoModelForCausalLM.from_pretrained(install_asset("poet"), dtype=torch.float32, attn_implementation="eager")


@pytest.fixture(scope="module")
def quatrains() -> list[str]:
    return [run_on(text) for text in load_regular_shi("validation", longest=24)["text"][:60]]


def allowed_pairs(kind: str) -> torch.Tensor | None:
    """Masks for two texts of seven tokens, the second of them with three of padding."""
    real = torch.arange(7)[None] < torch.tensor([7, 4])[:, None]
    causal = torch.ones(7, 7).tril().bool()
    masks = {"none": None, "causal": causal, "padding": real[:, None, None], "both": causal & real[:, None, None]}
    return masks[kind]


def some_texts(language: str) -> list[str]:
    if language == "English":
        return load_reviews("validation")["text"][:150].tolist()
    return load_regular_shi("validation", longest=24)["text"][:150].tolist()


@pytest.mark.parametrize("language", ["English", "Chinese"])
def test_merges_and_encodings_are_those_of_the_library(chapter: SimpleNamespace, language: str) -> None:
    texts = [chapter.clean(text) for text in some_texts(language)]
    letters = set("".join("".join(texts[:100]).split()))
    vocabulary_size = len(letters) + 100
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.train_from_iterator(texts[:100], trainers.BpeTrainer(vocab_size=vocabulary_size, show_progress=False))
    words = [word for text in texts[:100] for word, _ in library.pre_tokenizer.pre_tokenize_str(text)]
    merges = chapter.train_bpe(Counter(words), vocabulary_size)
    assert len(merges) >= 100
    assert merges == [tuple(pair) for pair in json.loads(library.to_str())["model"]["merges"]]
    unseen = [part for text in texts[100:] for part in text.split() if set(part) <= letters]
    assert len(unseen) > 10
    assert [chapter.encode(text, merges) for text in unseen] == [library.encode(text).tokens for text in unseen]


@pytest.mark.parametrize("seed", range(3))
def test_masking_is_the_collators(chapter: SimpleNamespace, wordpiece: PreTrainedTokenizerBase, seed: int) -> None:
    texts = load_reviews("validation")["text"][:100].tolist()
    batch = wordpiece(texts, padding=True, return_tensors="pt", return_special_tokens_mask=True)
    special = batch["special_tokens_mask"].bool()
    torch.manual_seed(seed)
    collator = DataCollatorForLanguageModeling(wordpiece, mlm_probability=0.15)
    inputs, labels = collator.torch_mask_tokens(batch["input_ids"].clone(), special)
    torch.manual_seed(seed)
    ours = chapter.mask_tokens(batch["input_ids"], special, wordpiece.mask_token_id, len(wordpiece))
    assert torch.equal(ours[0], inputs) and torch.equal(ours[1], labels)
    assert (labels[special] == -100).all() and (labels != -100).any()


def test_the_shift_is_inside_the_model(poet: GPT2LMHeadModel, quatrains: list[str]) -> None:
    ids = torch.tensor(poem_token_ids(AutoTokenizer.from_pretrained(install_asset("poet")), quatrains[:1]))
    with torch.no_grad():
        output = poet(ids, labels=ids)
    by_hand = functional.cross_entropy(output.logits[0, :-1], ids[0, 1:])
    torch.testing.assert_close(by_hand, output.loss, atol=TOLERANCE, rtol=0)


def test_surprises_are_the_loss_and_give_bits_per_character(
    chapter: SimpleNamespace,
    poet: GPT2LMHeadModel,
    quatrains: list[str],
) -> None:
    encoded = poem_token_ids(AutoTokenizer.from_pretrained(install_asset("poet")), quatrains)
    encoded[0] = encoded[0][:9]  # So that there is padding.
    nats = chapter.surprises(poet, encoded)
    assert len(nats) == sum(len(ids) - 1 for ids in encoded)
    batches = LengthBatches(encoded, None, 7, 0)
    library = mean_loss(poet, (batches.batch(0, position) for position in range(len(batches))))
    assert nats.mean().item() == pytest.approx(library, abs=1e-4)
    characters = sum(map(len, quatrains))
    by_formula = len(nats) / characters * math.log2(nats.mean().exp())
    assert nats.sum().item() / math.log(2) / characters == pytest.approx(by_formula, abs=1e-4)


@pytest.mark.parametrize("kind", ["none", "causal", "padding", "both"])
@pytest.mark.parametrize("scale", [1.0, 30.0])  # With large scores, exp without a shift would overflow.
def test_attention_is_torchs(chapter: SimpleNamespace, kind: str, scale: float) -> None:
    torch.manual_seed(0)
    query, key, value = scale * torch.randn(2, 3, 7, 16), torch.randn(2, 3, 7, 16), torch.randn(2, 3, 7, 5)
    expected = functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed_pairs(kind))
    mixed, weights = chapter.attention(query, key, value, allowed_pairs(kind))
    torch.testing.assert_close(mixed, expected, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 7), atol=TOLERANCE, rtol=0)


def test_attention_takes_fewer_queries_than_keys(chapter: SimpleNamespace) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 2, 3, 8), torch.randn(1, 2, 6, 8), torch.randn(1, 2, 6, 8)
    mixed, weights = chapter.attention(query, key, value)
    assert weights.shape == (1, 2, 3, 6)
    expected = functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(mixed, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("heads", [1, 3, 12])
def test_heads_are_those_of_multihead_attention(chapter: SimpleNamespace, heads: int) -> None:
    torch.manual_seed(0)
    module = torch.nn.MultiheadAttention(24, heads, batch_first=True)
    torch.nn.init.normal_(module.in_proj_bias)  # torch starts it at 0, where a forgotten bias would not show.
    torch.nn.init.normal_(module.out_proj.bias)
    parts = zip(module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3), strict=True)
    projections = [SimpleNamespace(weight=weight, bias=bias) for weight, bias in parts]
    states = torch.randn(2, 7, 24)
    allowed = allowed_pairs("both")
    # To this module True means left out, and it takes one mask per text and head.
    per_head = ~allowed.expand(2, heads, 7, 7).reshape(2 * heads, 7, 7)
    expected, weights = module(states, states, states, attn_mask=per_head, average_attn_weights=False)
    mixed, attended = chapter.multi_head(states, *projections, module.out_proj, heads, allowed)
    torch.testing.assert_close(mixed, expected, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(attended, weights, atol=TOLERANCE, rtol=0)


def test_layer_norm_is_torchs(chapter: SimpleNamespace) -> None:
    torch.manual_seed(0)
    states, weight, bias = 5 + 3 * torch.randn(2, 7, 9), torch.randn(9), torch.randn(9)
    expected = functional.layer_norm(states, (9,), weight, bias, 1e-3)
    torch.testing.assert_close(chapter.layer_norm(states, weight, bias, 1e-3), expected, atol=TOLERANCE, rtol=0)


def assert_equal_to_bert(chapter: SimpleNamespace, model: BertModel, ids: torch.Tensor, mask: torch.Tensor) -> None:
    with torch.no_grad():
        output = model(ids, mask, output_hidden_states=True, output_attentions=True)
        every, maps = chapter.bert_by_hand(model, ids, mask)
    torch.testing.assert_close(every, torch.stack(output.hidden_states), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(maps, torch.stack(output.attentions), atol=TOLERANCE, rtol=0)


def test_the_installed_bert_by_hand(chapter: SimpleNamespace, wordpiece: PreTrainedTokenizerBase) -> None:
    model = AutoModel.from_pretrained(install_asset("bert"), dtype=torch.float32, attn_implementation="eager").eval()
    texts = ["Woefully pretentious.", *load_reviews("test")["text"][:7]]
    batch = wordpiece(texts, padding=True, return_tensors="pt")
    assert (batch["attention_mask"] == 0).any()
    assert_equal_to_bert(chapter, model, batch["input_ids"], batch["attention_mask"])


def test_another_bert_by_hand(chapter: SimpleNamespace) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40}
    config = BertConfig(vocab_size=50, **shape, layer_norm_eps=1e-3, initializer_range=0.5, attn_implementation="eager")
    mask = (torch.arange(7)[None] < torch.tensor([7, 4])[:, None]).long()
    assert_equal_to_bert(chapter, BertModel(config).eval(), torch.randint(50, (2, 7)), mask)


@pytest.mark.parametrize(("layers", "d", "f"), [(1, 16, 64), (3, 24, 40)])
def test_parameters_and_flops_are_foretold(chapter: SimpleNamespace, layers: int, d: int, f: int) -> None:
    eager = {"attn_implementation": "eager"}
    shape = {"hidden_size": d, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": f}
    bert = BertModel(BertConfig(vocab_size=50, max_position_embeddings=32, **shape, **eager))
    sizes = {"vocab_size": 50, "n_positions": 32, "n_embd": d, "n_layer": layers, "n_head": 2, "n_inner": f}
    gpt2 = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=2, **eager))
    in_layers = layers * chapter.layer_parameters(d, f)
    assert sum(p.numel() for p in bert.parameters()) == (50 + 32 + 2 + 2) * d + in_layers + d * d + d
    assert sum(p.numel() for p in gpt2.parameters()) == (50 + 32 + 2) * d + in_layers
    text = torch.randint(3, 50, (1, 11))
    flops = layers * chapter.layer_flops(11, d, f)
    with FlopCounterMode(display=False) as counted:
        bert(text)
    assert counted.get_total_flops() == flops + 2 * d * d
    with FlopCounterMode(display=False) as counted:
        loss = gpt2(text, labels=text).loss
    assert counted.get_total_flops() == flops + 2 * 11 * d * 50
    with FlopCounterMode(display=False) as counted_backward:
        loss.backward()
    assert counted_backward.get_total_flops() == 2 * counted.get_total_flops()
