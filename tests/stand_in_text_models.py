"""BERT and GPT-2, random and small unless asked otherwise, in the very form in which the hub keeps the large ones.

Real are the names and places of the files, the fields of the configurations, the formats of the tokenizers, and the
names of the tensors: BERT's ``LayerNorm.gamma``, GPT-2's without ``transformer.`` and with its masks. Not real are
sizes and numbers, and GPT-2's vocabulary, which is learnt here. BERT's tokenizer is the real one, byte for byte.

Beside them lies what the repositories also hold and no chapter should fetch: pickles and other formats, empty here.
"""

from __future__ import annotations

import json

import torch
from safetensors.torch import save
from stand_in_files import Files, as_json, byte_pairs, merges_file, never_fetched
from transformers import BertConfig, BertForPreTraining, GPT2Config, GPT2LMHeadModel, set_seed

from aigc_helpers.store import install_asset
from aigc_helpers.text import load_reviews

BERT, GPT2 = "google-bert/bert-base-uncased", "openai-community/gpt2"


def bert(full_size: bool = False) -> Files:
    """Return bert-base-uncased, with 2 layers x 32 instead of 12 x 768 unless in full size."""
    config = {
        "architectures": ["BertForMaskedLM"],
        "attention_probs_dropout_prob": 0.1,
        "gradient_checkpointing": False,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 128,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "model_type": "bert",
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "transformers_version": "4.6.0.dev0",
        "type_vocab_size": 2,
        "use_cache": True,
        "vocab_size": 30522,
    }
    if full_size:
        config |= {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
    set_seed(0)
    tensors = BertForPreTraining(BertConfig(**config)).state_dict()
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors.items()
        if not name.startswith("cls.predictions.decoder.")  # Tied to the embeddings, and not stored.
    }
    embedded = install_asset("bert", "embedded")  # Its vocabulary is that of bert-base-uncased.
    tokenizer = json.loads((embedded / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer |= {"truncation": None, "padding": None}
    del tokenizer["model"]["type"]
    return {
        "config.json": as_json(config),
        "model.safetensors": save(tensors, {"format": "pt"}),
        "tokenizer.json": json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")).encode(),
        "tokenizer_config.json": b'{"do_lower_case": true, "model_max_length": 512}',
        "vocab.txt": (embedded / "vocab.txt").read_bytes(),
    } | never_fetched("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack")


def gpt2(full_size: bool = False) -> Files:
    """Return GPT-2, with 2 layers x 32 and a table of 1,024 tokens instead of 12 x 768 and 50,257 unless in full size.

    The tokenizer knows 1,024 tokens in any case.
    """
    vocabulary, merges = byte_pairs(load_reviews("train")["text"].head(2000), size=1023)
    end = vocabulary["<|endoftext|>"] = len(vocabulary)
    config = {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1,
        "bos_token_id": end,
        "embd_pdrop": 0.1,
        "eos_token_id": end,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05,
        "model_type": "gpt2",
        "n_ctx": 1024,
        "n_embd": 32,
        "n_head": 2,
        "n_layer": 2,
        "n_positions": 1024,
        "resid_pdrop": 0.1,
        "summary_activation": None,
        "summary_first_dropout": 0.1,
        "summary_proj_to_labels": True,
        "summary_type": "cls_index",
        "summary_use_proj": True,
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
        "vocab_size": len(vocabulary),
    }
    if full_size:
        config |= {"n_embd": 768, "n_head": 12, "n_layer": 12, "vocab_size": 50257}
    set_seed(0)
    tensors = GPT2LMHeadModel(GPT2Config(**config)).transformer.state_dict()
    for layer in range(config["n_layer"]):  # The causal mask, which is computed today, was stored then.
        tensors[f"h.{layer}.attn.bias"] = torch.ones(1024, 1024).tril()[None, None]
    marks = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": True}
    fast = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": end, "content": "<|endoftext|>", **marks}],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True},
        "model": {
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }
    return {
        "config.json": as_json(config),
        "generation_config.json": as_json({"bos_token_id": end, "eos_token_id": end, "_from_model_config": True}),
        "model.safetensors": save(tensors, {"format": "pt"}),
        "tokenizer.json": as_json(fast),
        "tokenizer_config.json": b'{"model_max_length": 1024}',
        "vocab.json": as_json(vocabulary),
        "merges.txt": merges_file(merges),
    } | never_fetched("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "rust_model.ot", "64.tflite")
