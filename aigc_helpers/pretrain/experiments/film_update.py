"""What full fine-tuning adds to each weight matrix: singular values, and what is left of the gain at a lower rank.

Trains as chapter 05 does in section 7: all weights of BERT on 2,000 film snippets.
"""

from __future__ import annotations

import torch

from aigc_helpers.paths import DATA
from aigc_helpers.pretrain.experiments.film_task import film_batches, new_bert, right_answers, train
from aigc_helpers.profile import choose_profile
from aigc_helpers.training import FitSettings, Row, run_sweep

SINGULAR_VALUES_FILE = DATA / "results" / "film_update_singular_values.jsonl"
TRUNCATED_FILE = DATA / "results" / "film_update_truncated.jsonl"

SNIPPETS, BATCH_SIZE, EPOCHS, LEARNING_RATE = 2000, 32, 1, 1e-4
TARGETS = ("query", "value")
RANKS = (0, 1, 2, 4, 8, 16, 32, 384)


def truncated(update: torch.Tensor, rank: int) -> torch.Tensor:
    """Return the matrix of at most ``rank`` nearest to ``update`` (Eckart & Young 1936), of the same shape (d, k)."""
    left, values, right = torch.linalg.svd(update, full_matrices=False)
    return left[:, :rank] * values[:rank] @ right[:rank]


def fine_tuned_bert(snippets: int = SNIPPETS) -> torch.nn.Module:
    """Return BERT after full fine-tuning on the first ``snippets`` training snippets."""
    choose_profile("embedded")
    model = new_bert(0)
    train(model, film_batches(0, snippets, BATCH_SIZE), FitSettings(EPOCHS, LEARNING_RATE))
    return model


def encoder_updates(tuned: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return tuned minus pretrained weight of each linear layer in the encoder, by name, shape (outputs, inputs)."""
    before = new_bert(0).state_dict()
    names = [name for name, module in tuned.named_modules() if isinstance(module, torch.nn.Linear) and "layer." in name]
    after = tuned.state_dict()
    return {name: after[f"{name}.weight"] - before[f"{name}.weight"] for name in names}


def build_film_update() -> str:
    """Train once, and store what data/results lacks; returns a closing line."""
    tuned = fine_tuned_bert()
    updates = encoder_updates(tuned)
    whole = {name: tuned.get_parameter(f"{name}.weight").detach().clone() for name in updates}

    def spectrum(module: str) -> Row:
        values = torch.linalg.svdvals(updates[module]).tolist()
        return {"singular_values": [float(f"{value:.4g}") for value in values]}

    def judge(rank: int) -> Row:
        with torch.no_grad():
            for name, update in updates.items():
                tuned.get_parameter(f"{name}.weight").copy_(whole[name] - update + truncated(update, rank))
        right = right_answers(tuned, "test")
        return {"accuracy": sum(right) / len(right)}

    modules = [{"module": name} for name in updates if name.endswith(TARGETS)]
    spectra = run_sweep(SINGULAR_VALUES_FILE, modules, spectrum)
    run_sweep(TRUNCATED_FILE, [{"rank": rank} for rank in RANKS], judge)
    return f"{SINGULAR_VALUES_FILE}: {len(spectra)} matrices; {TRUNCATED_FILE}: {len(RANKS)} ranks"
