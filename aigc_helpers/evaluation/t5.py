"""How good data/t5 is, alone and with data/price_adapter: in what it was trained on, and on prices."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from aigc_helpers.metrics import proportion_interval, score_translations
from aigc_helpers.store import install_asset
from aigc_helpers.text import PREFIXES, draw_pairs, load_translator, to_examples, translate

DOMAINS = ("old", "price")


def evaluate_t5(pairs: int = 500, seed: int = 0) -> dict[str, Any]:
    """Measure the base, and the base with the price adapter, on test pairs of both domains in both directions.

    Args:
        pairs: of each domain; those that do not go both ways count in one direction only.
        seed: of their drawing.

    Returns:
        JSON-able: ``base`` and ``tuned``, each with ``old`` and ``price``, each with ``zh`` and ``en`` (the language
        translated into), each with ``sentences``, and ``exact`` (0 to 1), ``bleu`` and ``chrf`` (0 to 100), all with
        ``mean``, ``low`` and ``high`` of the 95 % interval.
    """
    models = {
        "base": load_translator(),
        "tuned": load_translator(adapter=install_asset("price-adapter", "embedded")),
    }
    return {name: evaluate_translator(model, tokenizer, pairs, seed) for name, (tokenizer, model) in models.items()}


def evaluate_translator(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: int, seed: int = 0
) -> dict[str, Any]:
    """Return the figures of one model, as ``evaluate_t5`` returns them.

    Example:
        >>> from aigc_helpers.text import load_translator
        >>> tokenizer, model = load_translator()
        >>> figures = evaluate_translator(model, tokenizer, pairs=20)
        >>> figures["old"]["zh"]["exact"]["mean"] > figures["price"]["zh"]["exact"]["mean"]
        True
    """
    return {
        domain: {language: _figures(model, tokenizer, domain, language, pairs, seed) for language in PREFIXES}
        for domain in DOMAINS
    }


def _figures(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, domain: str, language: str, pairs: int, seed: int
) -> dict[str, Any]:
    examples = [each for each in to_examples(draw_pairs(domain, "test", pairs, seed)) if each.language == language]
    sources = [each.source.removeprefix(PREFIXES[language]) for each in examples]
    references = [each.target for each in examples]
    translations = translate(model, tokenizer, sources, language)
    scores = score_translations(translations, references, language)
    right = [one == other for one, other in zip(translations, references, strict=True)]
    return {
        "sentences": len(references),
        "exact": proportion_interval(right),
        "bleu": asdict(scores.bleu),
        "chrf": asdict(scores.chrf),
    }
