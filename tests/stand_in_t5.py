"""T5-small, random, and smaller yet unless asked otherwise, in the very form in which the hub keeps the large one.

Real are the names of the files, the fields of the configurations, the names of the tensors, the tokenizer's format,
and that the table has 28 rows more than there are tokens. Not real are sizes and numbers, and the pieces of words,
which are learnt here from English: as in the real one, there is no Chinese character among them. The file of
sentencepiece, which nothing reads where tokenizer.json is, is left out.
"""

from __future__ import annotations

import json

from safetensors.torch import save
from stand_in_files import Files, as_json, never_fetched
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import T5Config, T5ForConditionalGeneration, set_seed

from aigc_helpers.text import load_reviews

T5 = "google-t5/t5-small"

_SENTINELS = [f"<extra_id_{number}>" for number in range(100)]


def t5(full_size: bool = False) -> Files:
    """Return T5-small, with 1 + 1 layers x 32 instead of 6 + 6 x 512 unless in full size."""
    tokenizer = _tokenizer()
    config = {
        "architectures": ["T5ForConditionalGeneration"],
        "d_ff": 64,
        "d_kv": 16,
        "d_model": 32,
        "decoder_start_token_id": 0,
        "dropout_rate": 0.1,
        "eos_token_id": 1,
        "initializer_factor": 1.0,
        "is_encoder_decoder": True,
        "layer_norm_epsilon": 1e-06,
        "model_type": "t5",
        "n_positions": 512,
        "num_heads": 2,
        "num_layers": 1,
        "output_past": True,
        "pad_token_id": 0,
        "relative_attention_num_buckets": 32,
        "task_specific_params": {
            "translation_en_to_de": {
                "early_stopping": True,
                "max_length": 300,
                "num_beams": 4,
                "prefix": "translate English to German: ",
            },
        },
        "use_cache": True,
        "vocab_size": tokenizer.get_vocab_size() + 28,
    }
    if full_size:
        config |= {"d_ff": 2048, "d_kv": 64, "d_model": 512, "num_heads": 8, "num_layers": 6, "vocab_size": 32128}
    set_seed(0)
    tensors = T5ForConditionalGeneration(T5Config(**config)).state_dict()
    for tied in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"):
        tensors.pop(tied, None)
    ends = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    settings = {
        "additional_special_tokens": _SENTINELS,
        "eos_token": "</s>",
        "extra_ids": 100,
        "model_max_length": 512,
        "pad_token": "<pad>",
        "tokenizer_class": "T5Tokenizer",
        "unk_token": "<unk>",
    }
    return {
        "config.json": as_json(config),
        "generation_config.json": as_json({"_from_model_config": True, **ends}),
        "model.safetensors": save(tensors, {"format": "pt"}),
        "tokenizer.json": tokenizer.to_str().encode(),
        "tokenizer_config.json": as_json(settings),
    } | never_fetched("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "rust_model.ot")


def _tokenizer() -> Tokenizer:
    learnt = Tokenizer(models.Unigram())
    words = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    learnt.normalizer, learnt.pre_tokenizer = normalizers.NFKC(), words
    trainer = trainers.UnigramTrainer(
        vocab_size=1000, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    learnt.train_from_iterator(load_reviews("train")["text"].head(1000), trainer)
    pieces = [tuple(pair) for pair in json.loads(learnt.to_str())["model"]["vocab"]]
    pieces += [(name, 0.0) for name in reversed(_SENTINELS)]  # <extra_id_0> is the last of all.
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.normalizer, tokenizer.pre_tokenizer = learnt.normalizer, words
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>", *_SENTINELS])
    return tokenizer
