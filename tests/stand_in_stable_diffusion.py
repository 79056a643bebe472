"""Stable Diffusion 1.5, random and small unless asked otherwise, in the very form in which the hub keeps the large one.

Real are the names and places of the files, the half-precision variant beside other formats, the fields of the
configurations, the scheduler, the safety checker, the tokenizer's format without a tokenizer.json, and the names of
older tensors: CLIP's under ``text_model.``, ``query`` and ``proj_attn`` in the autoencoder. Not real are sizes and
numbers, and the vocabulary, which is learnt here.

The UNet has two levels instead of four, and what is drawn has 64 x 64 pixels. So its configuration names a later
diffusers: of one as old as the real one's, the pipeline takes that size for an error and goes back to 512.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import save
from stand_in_files import Files, as_json, byte_pairs, merges_file, never_fetched
from transformers import CLIPConfig, CLIPTextConfig, CLIPTextModel, set_seed

from aigc_helpers.images import COLOURS, caption, load_emoji

STABLE_DIFFUSION = "stable-diffusion-v1-5/stable-diffusion-v1-5"


def stable_diffusion(full_size: bool = False) -> Files:
    """Return the repository: a diffusers folder. The safety checker stays small in full size, too: nobody trains it."""
    larger = _FULL_SIZE if full_size else dict.fromkeys(_FULL_SIZE, {})
    unet_config, vae_config = _UNET | larger["unet"], _VAE | larger["vae"]
    files: Files = {"model_index.json": as_json(_MODEL_INDEX)}
    files["scheduler/scheduler_config.json"] = as_json(_SCHEDULER)
    files |= _clip_tokenizer()
    vocabulary_size = len(json.loads(files["tokenizer/vocab.json"]))
    set_seed(0)
    text_config = _TEXT_ENCODER | {"vocab_size": vocabulary_size} | larger["text_encoder"]
    text_encoder = CLIPTextModel(CLIPTextConfig(**text_config))
    checker = StableDiffusionSafetyChecker(CLIPConfig(**_SAFETY_CHECKER))
    unet, vae = UNet2DConditionModel.from_config(unet_config), AutoencoderKL.from_config(vae_config)
    named = {f"text_model.{name}": tensor for name, tensor in text_encoder.state_dict().items()}
    named["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    files |= _part("text_encoder", "model", text_config, named)
    files |= _part("safety_checker", "model", _SAFETY_CHECKER, checker.state_dict())
    files |= _part("unet", "diffusion_pytorch_model", unet_config, unet.state_dict())
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    in_vae = vae.state_dict()
    for new, old in older.items():
        in_vae = {name.replace(f"attentions.0.{new}.", f"attentions.0.{old}."): in_vae[name] for name in in_vae}
    files |= _part("vae", "diffusion_pytorch_model", vae_config, in_vae)
    files["feature_extractor/preprocessor_config.json"] = as_json(_FEATURE_EXTRACTOR)
    return files | never_fetched("v1-5-pruned.ckpt", "v1-5-pruned.safetensors", "v1-5-pruned-emaonly.ckpt")


def _clip_tokenizer() -> Files:
    """Return what the folder ``tokenizer`` of Stable Diffusion 1.5 holds; there is no tokenizer.json among it."""
    emoji = load_emoji()
    names = [name for name in emoji.english if len(name.split()) < 3]
    captions = [caption(name, "noto", COLOURS[place % 10]) for place, name in enumerate(names)]
    vocabulary, merges = byte_pairs(captions, size=2500, end_of_word="</w>")
    for mark in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[mark] = len(vocabulary)
    mark = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    start, end = ({"__type": "AddedToken", "content": name, **mark} for name in list(vocabulary)[-2:])
    settings = {
        "add_prefix_space": False,
        "bos_token": start,
        "do_lower_case": True,
        "eos_token": end,
        "errors": "replace",
        "model_max_length": 77,
        "name_or_path": "openai/clip-vit-large-patch14",
        "pad_token": "<|endoftext|>",
        "special_tokens_map_file": "./special_tokens_map.json",
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": end,
    }
    tokens = {name: settings[name] for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    return {
        "tokenizer/merges.txt": merges_file(merges),
        "tokenizer/special_tokens_map.json": as_json(tokens),
        "tokenizer/tokenizer_config.json": as_json(settings),
        "tokenizer/vocab.json": as_json(vocabulary),
    }


def _part(folder: str, weights: str, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Files:
    halves = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    files = {f"{folder}/config.json": as_json(config), f"{folder}/{weights}.fp16.safetensors": save(halves)}
    pickle = "pytorch_model" if weights == "model" else weights
    others = (f"{weights}.safetensors", f"{pickle}.bin", f"{pickle}.fp16.bin")
    return files | never_fetched(*(f"{folder}/{name}" for name in others))


_MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.6.0",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}

_SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}

_TEXT_ENCODER = {
    "_name_or_path": "openai/clip-vit-large-patch14",
    "architectures": ["CLIPTextModel"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "dropout": 0.0,
    "eos_token_id": 2,
    "hidden_act": "quick_gelu",
    "hidden_size": 16,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 64,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "pad_token_id": 1,
    "projection_dim": 16,
    "torch_dtype": "float32",
    "transformers_version": "4.22.0.dev0",
}

_VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 16,
    "image_size": 224,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "patch_size": 56,
}

_SAFETY_CHECKER = {
    "architectures": ["StableDiffusionSafetyChecker"],
    "initializer_factor": 1.0,
    "logit_scale_init_value": 2.6592,
    "model_type": "clip",
    "projection_dim": 16,
    "text_config": {name: value for name, value in _TEXT_ENCODER.items() if name != "torch_dtype"},
    "torch_dtype": "float32",
    "transformers_version": None,
    "vision_config": _VISION,
}

_FEATURE_EXTRACTOR = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 224,
}

_UNET = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.9.0",
    "act_fn": "silu",
    "attention_head_dim": 2,
    "block_out_channels": [16, 32],
    "center_input_sample": False,
    "cross_attention_dim": 16,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 1,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 4,
    "out_channels": 4,
    "sample_size": 8,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
}

_VAE = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "block_out_channels": [4, 4, 8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "out_channels": 3,
    "sample_size": 64,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}

_FULL_SIZE: dict[str, dict[str, Any]] = {
    "text_encoder": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "projection_dim": 768,
        "vocab_size": 49408,
    },
    "unet": {
        "attention_head_dim": 8,
        "block_out_channels": [320, 640, 1280, 1280],
        "cross_attention_dim": 768,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "sample_size": 64,
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    },
    "vae": {
        "block_out_channels": [128, 256, 512, 512],
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "sample_size": 512,
    },
}
