"""A Keras file becomes safetensors with torch's names and orders: the converted model computes what the original did.

A kernel that is not turned, or a norm under another name, loads without an error where it is square, and ruins it all.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from transformers import (
    BertConfig,
    BertForPreTraining,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
)

from aigc_helpers import inspect
from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import convert_keras_file

BERT = dict(vocab_size=37, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16)
BERT_LEAVES = {"LayerNorm.weight": "gamma", "LayerNorm.bias": "beta", "word_embeddings.weight": "weight"}
BERT_LEAVES |= {"position_embeddings.weight": "embeddings", "token_type_embeddings.weight": "embeddings"}


def write_h5(path: Path, datasets: dict[str, np.ndarray]) -> Path:
    with h5py.File(path, "w") as file:
        for place, numbers in datasets.items():
            file[place] = numbers
    return path


def as_transformers_wrote_it(model: PreTrainedModel, scope: str) -> dict[str, np.ndarray]:
    """Return the model's tensors under the names, and in the order, of transformers' TensorFlow classes."""
    datasets = {}
    tied = set(model.all_tied_weights_keys)
    for name, tensor in model.state_dict().items():
        if name in tied:
            continue
        numbers = tensor.numpy()
        leaf = next((leaf for end, leaf in BERT_LEAVES.items() if name.endswith(end)), name.rpartition(".")[2])
        module = model.get_submodule(name.rpartition(".")[0]) if "." in name else None
        if isinstance(module, nn.Linear) and leaf == "weight":
            leaf, numbers = "kernel", numbers.T
        words = name.split(".")[:-1]
        path = "/".join(words).replace("/layer/", "/layer_._").replace("/h/", "/h_._")
        group = "mlm___cls" if words[0] == "cls" else words[0]
        inner = path.replace("cls/", "mlm___cls/", 1) if words[0] == "cls" else path
        datasets[f"{group}/{scope}/{inner}/{leaf}:0"] = numbers
    return datasets


def tiny(kind: type[PreTrainedModel], config: object) -> PreTrainedModel:
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # Else norms are ones and biases zeros, and swapping them changes nothing.
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return model


def assert_same_weights(loaded: PreTrainedModel, model: PreTrainedModel) -> None:
    """The weights are equal bit by bit. What is computed is not: sums go by where in memory the weights came to lie."""
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("kind", "scope"),
    [
        (BertForPreTraining, "tf_bert_for_pre_training_2"),
        (BertForSequenceClassification, "tf_bert_for_sequence_classification"),
    ],
)
def test_a_bert_of_tensorflow_computes_the_same_in_torch(tmp_path: Path, kind, scope: str) -> None:
    model = tiny(kind, BertConfig(**BERT))
    source = write_h5(tmp_path / "tf_model.h5", as_transformers_wrote_it(model, scope))
    remarks = convert_keras_file(source, tmp_path / "model.safetensors")
    assert remarks == []
    model.config.save_pretrained(tmp_path)
    loaded, report = kind.from_pretrained(tmp_path, use_safetensors=True, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    words = torch.tensor([[3, 1, 4, 1, 5]])
    assert_same_weights(loaded, model)
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(words).to_tuple(), model(words).to_tuple())
    inspection = inspect(source)
    assert (inspection.container, inspection.family, inspection.kind) == ("HDF5", "BERT", "full checkpoint")
    assert inspection.parameters == sum(tensor.numel() for tensor in load_file(tmp_path / "model.safetensors").values())


def test_a_bert_s_file_without_a_class_scope_fits_every_name(tmp_path: Path) -> None:
    model = tiny(BertForSequenceClassification, BertConfig(**BERT))
    datasets = {
        place.split("/", 2)[2]: numbers for place, numbers in as_transformers_wrote_it(model, "tf_bert").items()
    }
    assert "bert/encoder/layer_._0/attention/self/query/kernel:0" in datasets
    convert_keras_file(write_h5(tmp_path / "a.h5", datasets), tmp_path / "a.safetensors")
    found = load_file(tmp_path / "a.safetensors")
    model_again = tiny(BertForSequenceClassification, BertConfig(**BERT))
    model_again.load_state_dict(found, strict=True)
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())


def test_a_gpt2_of_tensorflow_keeps_its_turned_matrices(tmp_path: Path) -> None:
    # Both classes store these as inputs × outputs, under the name weight; the biases are rows of one line.
    model = tiny(GPT2LMHeadModel, GPT2Config(vocab_size=37, n_embd=16, n_layer=2, n_head=2, n_positions=8))
    datasets = as_transformers_wrote_it(model, "tf_gpt2lm_head_model")
    for place in list(datasets):
        if "/ln_" in place:
            leaf = {"weight:0": "gamma:0", "bias:0": "beta:0"}[place.rpartition("/")[2]]
            datasets[place.rpartition("/")[0] + "/" + leaf] = datasets.pop(place)
        elif place.endswith("bias:0"):
            datasets[place] = datasets[place][None]
    convert_keras_file(write_h5(tmp_path / "tf_model.h5", datasets), tmp_path / "model.safetensors")
    model.config.save_pretrained(tmp_path)
    loaded, report = GPT2LMHeadModel.from_pretrained(tmp_path, use_safetensors=True, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert_same_weights(loaded, model)
    words = torch.tensor([[3, 1, 4]])
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(words).logits, model(words).logits)


def test_layers_of_keras_compute_the_same_in_torch(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    dense, bias = random.normal(size=(3, 5)).astype("f4"), random.normal(size=5).astype("f4")
    kernel = random.normal(size=(3, 2, 4, 6)).astype("f4")  # Height, width, inputs, outputs.
    norm = {
        leaf: random.uniform(0.5, 1, 6).astype("f4") for leaf in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    words = random.normal(size=(7, 3)).astype("f4")
    datasets = {"dense/dense/kernel:0": dense, "dense/dense/bias:0": bias, "conv2d/conv2d/kernel:0": kernel}
    datasets |= {f"norm/norm/{leaf}:0": numbers for leaf, numbers in norm.items()}
    datasets["embedding/embedding/embeddings:0"] = words
    path = write_h5(tmp_path / "weights.h5", {f"model_weights/{place}": each for place, each in datasets.items()})
    with h5py.File(path, "a") as file:
        file["optimizer_weights/Adam/m"] = np.ones(3)
        file.attrs["model_config"] = '{"class_name": "Lambda"}'
    (remark,) = convert_keras_file(path, tmp_path / "a.safetensors")
    assert "optimizer" in remark
    found = load_file(tmp_path / "a.safetensors")
    layer = {name: nn.Linear(3, 5) for name in ["dense"]} | {"conv2d": nn.Conv2d(4, 6, (3, 2), bias=False)}
    layer |= {"norm": nn.BatchNorm2d(6, track_running_stats=True), "embedding": nn.Embedding(7, 3)}
    found["norm.num_batches_tracked"] = torch.tensor(0)
    model = nn.ModuleDict(layer).eval()
    model.load_state_dict(found, strict=True)
    inputs = random.normal(size=(2, 3)).astype("f4")
    torch.testing.assert_close(model["dense"](torch.tensor(inputs)), torch.tensor(inputs @ dense + bias))
    torch.testing.assert_close(model["embedding"](torch.tensor([6])), torch.tensor(words[6:]))
    pixels = random.normal(size=(1, 5, 5, 4)).astype("f4")  # Keras: channels last.
    by_hand = np.zeros((1, 3, 4, 6), "f4")
    for row in range(3):
        for column in range(4):
            patch = pixels[:, row : row + 3, column : column + 2]
            by_hand[:, row, column] = np.tensordot(patch, kernel, axes=([1, 2, 3], [0, 1, 2]))
    channels_first = torch.tensor(pixels).permute(0, 3, 1, 2)
    convolved = model["conv2d"](channels_first)
    torch.testing.assert_close(convolved.permute(0, 2, 3, 1), torch.tensor(by_hand))
    numbers = {name: torch.tensor(each) for name, each in norm.items()}
    expected = functional.batch_norm(
        convolved, numbers["moving_mean"], numbers["moving_variance"], numbers["gamma"], numbers["beta"]
    )
    torch.testing.assert_close(model["norm"](convolved), expected)


def test_what_is_not_known_keeps_its_name_and_is_remarked(tmp_path: Path) -> None:
    path = write_h5(
        tmp_path / "a.h5", {"layers/dense/vars/0": np.ones((2, 3), "f2"), "gru/recurrent_kernel:0": np.ones(2)}
    )
    (remark,) = convert_keras_file(path, tmp_path / "a.safetensors")
    assert "'layers/dense/vars/0'" in remark and "'gru/recurrent_kernel:0'" in remark
    found = load_file(tmp_path / "a.safetensors")
    assert {name: (tuple(each.shape), each.dtype) for name, each in found.items()} == {
        "layers.dense.vars.0": ((2, 3), torch.float16),
        "gru.recurrent_kernel": ((2,), torch.float64),
    }


def test_numbers_with_the_high_byte_first_keep_their_value(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "a.h5", {"a/bias:0": np.array([1.5, -2.25], ">f4")})
    convert_keras_file(path, tmp_path / "a.safetensors")
    assert load_file(tmp_path / "a.safetensors")["a.bias"].tolist() == [1.5, -2.25]


def external_link(file: h5py.File) -> None:
    file["dense/kernel:0"] = h5py.ExternalLink("/etc/secrets.h5", "/x")


def soft_link(file: h5py.File) -> None:
    file["dense/kernel:0"] = h5py.SoftLink("/elsewhere")


def link_at_the_root_of_a_model(file: h5py.File) -> None:
    file["model_weights"] = h5py.ExternalLink("/etc/secrets.h5", "/x")


def numbers_in_another_file(file: h5py.File) -> None:
    file.create_dataset("dense/kernel:0", (2, 2), "f4", external=[("/etc/passwd", 0, 16)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2, 2), "f4")
    layout[:] = h5py.VirtualSource("/etc/secrets.h5", "x", (2, 2))
    file.create_virtual_dataset("dense/kernel:0", layout)


def texts(file: h5py.File) -> None:
    file.create_dataset("dense/kernel:0", data=["import os"], dtype=h5py.string_dtype())


def opaque(file: h5py.File) -> None:
    file.create_dataset("dense/kernel:0", data=np.void(b"\x80\x04."))


def claims_a_terabyte(file: h5py.File) -> None:
    file.create_dataset("dense/kernel:0", (500_000, 500_000), "f4", chunks=(100, 100))


def group_in_itself(file: h5py.File) -> None:
    file["dense/bias:0"] = np.ones(2, "f4")
    file["dense/dense"] = file["dense"]


def nested_deeply(file: h5py.File) -> None:
    file["/".join(["a"] * 60)] = np.ones(2, "f4")


def nothing(file: h5py.File) -> None:
    file.create_group("dense")


def without_shape(file: h5py.File) -> None:
    file["dense/kernel:0"] = h5py.Empty("f4")


def one_name_for_two(file: h5py.File) -> None:
    file["norm/gamma:0"] = file["norm/weight:0"] = np.ones(2, "f4")


HOSTILE = {
    external_link: "link to the file '/etc/secrets.h5'",
    soft_link: "link to '/elsewhere'",
    link_at_the_root_of_a_model: "link to the file '/etc/secrets.h5'",
    numbers_in_another_file: "points at others",
    virtual: "points at others",
    texts: "holds 'object', and weights are numbers",
    opaque: "holds '.V3', and weights are numbers",
    claims_a_terabyte: "claims to hold 1,000,000,000,000",
    group_in_itself: "stands in two places",
    nested_deeply: "nests or holds more",
    nothing: "without any numbers",
    without_shape: "points at others",
    one_name_for_two: "would both be called 'norm.weight'",
}


@pytest.mark.parametrize("write", HOSTILE, ids=lambda write: write.__name__)
def test_a_hostile_file_is_refused_by_its_fault(tmp_path: Path, write) -> None:
    path, target = tmp_path / "a.h5", tmp_path / "a.safetensors"
    with h5py.File(path, "w") as file:
        write(file)
    target.write_bytes(b"older")
    for read in (inspect, lambda path: convert_keras_file(path, target)):
        with pytest.raises(ReaderError, match=HOSTILE[write]) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))
    assert target.read_bytes() == b"older"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.h5", "a.safetensors"]


def test_another_file_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ReaderError, match="beginning of a pickle file"):
        convert_keras_file(path, tmp_path / "a.safetensors")
    path.write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(ReaderError, match="beginning of a GGUF file"):
        convert_keras_file(path, tmp_path / "a.safetensors")
    write_h5(path, {"dense/kernel:0": np.ones((30, 30), "f4")})
    path.write_bytes(path.read_bytes()[:-1000])
    for read in (inspect, lambda path: convert_keras_file(path, tmp_path / "a.safetensors")):
        with pytest.raises(ReaderError, match="no valid HDF5 file"):
            read(path)
    assert [each.name for each in tmp_path.iterdir()] == ["a.h5"]
