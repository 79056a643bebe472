"""One small task for many runs: film reviews on BERT, the same steps for every method that chapter 04 compares.

Every method trains the head, with a learning rate of its own: the classifier, and the pooler before it.
all-MiniLM-L6-v2 was trained without its pooler, which passes on very little of the text: with it frozen, BitFit and
prompt tuning stayed at chance in 64 steps of 16.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase, set_seed

from aigc_helpers.quiet import quiet
from aigc_helpers.store import install_asset
from aigc_helpers.text import LABEL_NAMES, LengthBatches, TextBatch, classification_loss, load_reviews, predict_classes
from aigc_helpers.training import FitSettings, MakeOptimizer, adamw, fit

SNIPPETS = 512
EPOCHS = 2
BATCH_SIZE = 8
HEAD_LEARNING_RATE = 1e-3
VALIDATION_SNIPPETS = 300


def new_bert(seed: int) -> torch.nn.Module:
    """Return BERT with a fresh head of two classes, drawn with ``seed``."""
    with quiet("transformers"):
        set_seed(seed)
        return AutoModelForSequenceClassification.from_pretrained(
            install_asset("bert", "embedded"), id2label=dict(enumerate(LABEL_NAMES)), trust_remote_code=False
        )


@lru_cache
def film_tokenizer() -> PreTrainedTokenizerBase:
    """Return BERT's tokenizer."""
    return AutoTokenizer.from_pretrained(install_asset("bert", "embedded"), trust_remote_code=False)


def film_batches(seed: int, snippets: int = SNIPPETS, batch_size: int = BATCH_SIZE) -> LengthBatches:
    """Return the first ``snippets`` training snippets in batches of like length, their order drawn with ``seed``."""
    train = load_reviews("train").head(snippets)
    token_ids = film_tokenizer()(train["text"].tolist(), truncation=True)["input_ids"]
    labels = train["label"].astype(int).tolist()
    return LengthBatches(token_ids, labels, batch_size, film_tokenizer().pad_token_id, seed)


def train(
    model: torch.nn.Module,
    batches: LengthBatches,
    settings: FitSettings,
    optimizer: MakeOptimizer = adamw,
) -> float:
    """Train ``model`` in place and return the CPU seconds it took (user time of the process, all threads together).

    What is stored was trained on CPUs; on a GPU ``fit`` computes in mixed precision, and the numbers differ.
    """
    started = os.times().user
    fit(model, batches, classification_loss, settings, optimizer=optimizer)
    return round(os.times().user - started, 1)


def is_of_head(name: str) -> bool:
    """Tell from a parameter's name whether it belongs to the head; PEFT's untrained copy of the classifier does not."""
    return ("pooler." in name or "classifier." in name) and "original_module" not in name


def optimizer_with_head(
    model: torch.nn.Module,
    settings: FitSettings,
    optimizer: MakeOptimizer = adamw,
) -> torch.optim.Optimizer:
    """Unfreeze the head and return ``optimizer(model, settings)`` with the head as a group of its own."""
    head = [parameter for name, parameter in model.named_parameters() if is_of_head(name)]
    for parameter in head:
        parameter.requires_grad = False
    made = optimizer(model, settings)
    for parameter in head:
        parameter.requires_grad = True
    made.add_param_group({"params": head, "lr": HEAD_LEARNING_RATE})
    return made


def right_answers(model: torch.nn.Module, split: str, snippets: int | None = None) -> list[int]:
    """Return, for each of the first ``snippets`` of a split (None: all), 1 for a right answer and 0 for a wrong one."""
    table = load_reviews(split).head(snippets)
    answers = predict_classes(model, film_tokenizer(), table["text"].tolist())
    return [int(one == other) for one, other in zip(answers, table["label"].astype(int), strict=True)]


def count_trainable(model: torch.nn.Module) -> int:
    """Return how many numbers of ``model`` require a gradient, the head not counted."""
    return sum(p.numel() for name, p in model.named_parameters() if p.requires_grad and not is_of_head(name))


def memory_of_a_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: TextBatch) -> dict[str, int]:
    """Take one training step and return the bytes of what it holds, summed over the tensors themselves.

    Returns:
        ``weight_bytes`` (all parameters), ``activation_bytes`` (what autograd keeps from the forward for the backward
        pass, each storage once, parameters and buffers left out), ``gradient_bytes`` and ``optimizer_bytes``.
    """
    model.train()
    with saved_activations(model) as activations:
        loss = classification_loss(model, batch)
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    optimizer.step()
    states = [tensor for state in optimizer.state.values() for tensor in state.values()]
    optimizer.zero_grad()
    return {
        "weight_bytes": _bytes(model.parameters()),
        "activation_bytes": sum(activations.values()),
        "gradient_bytes": _bytes(gradients),
        "optimizer_bytes": _bytes(states),
    }


@contextmanager
def saved_activations(model: torch.nn.Module) -> Iterator[dict[int, int]]:
    """Collect the bytes of each storage that autograd saves meanwhile, by address; parameters and buffers left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved


def _bytes(tensors: Iterator[torch.Tensor] | list[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
