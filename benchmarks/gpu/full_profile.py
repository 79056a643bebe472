"""The full profile on a GPU: every chapter with models of the real size, and what each measure of a training is worth.

    python benchmarks/gpu/full_profile.py               on a GPU, within nine minutes
    python benchmarks/gpu/full_profile.py --tiny -o F   the same on the CPU with tiny models: to try the script itself

The figures go to data/results/full_profile.json. The weights are random: time and memory do not depend on them, and
nothing is downloaded. The GPU's memory is capped at a T4's. Each training runs in a process of its own, so that its
peak is its own, and all contenders run in turns. After each part the file is written anew; a part for which the time
has run out says so in its place.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from full_profile_lane import FETCHED, copy_book, environment_of, make_repositories, serving, shorten  # noqa: E402

from aigc_helpers.files import write_text  # noqa: E402

if TYPE_CHECKING:
    import torch

RESULTS = REPOSITORY / "data" / "results" / "full_profile.json"
MEMORY = 15e9  # Bytes of a T4.
MINUTES = 9.0


@dataclass(frozen=True)
class Sizes:
    """How large the models are, what they are fed, and how often.

    Attributes:
        width: of the text models and of CLIP's text encoder; ``layers`` are theirs, too.
        layers: of each.
        widths: of the UNet's four levels.
        side: of the pictures, in pixels.
        texts: in a batch.
        tokens: of the longest text.
        pictures: in a batch.
        rounds: of all contenders in turns.
        warm_up: steps that do not count.
        steps: steps that do.
    """

    width: int
    layers: int
    widths: tuple[int, int, int, int]
    side: int
    texts: int
    tokens: int
    pictures: int
    rounds: int
    warm_up: int
    steps: int


FULL = Sizes(768, 12, (320, 640, 1280, 1280), 512, 32, 64, 4, rounds=2, warm_up=5, steps=20)
TINY = Sizes(64, 2, (32, 32, 64, 64), 64, 4, 16, 2, rounds=1, warm_up=1, steps=2)


def main() -> None:
    """Measure what the time suffices for, and print and store it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny models, on whatever device there is")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="when to begin nothing new (default: %(default)s)"
    )
    parser.add_argument("--one", metavar="CONTENDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(train(options.one, TINY if options.tiny else FULL)))
        return
    import torch

    if not options.tiny and not torch.cuda.is_available():
        sys.exit("full_profile: this machine has no GPU that torch can use. To try the script: --tiny -o FILE")
    deadline = time.monotonic() + 60 * options.minutes
    report: dict[str, Any] = about_this_machine() | {"tiny": options.tiny, "trainings": {}, "chapters": {}}
    for part, name, figures in measurements(options.tiny, deadline):
        report[part].setdefault(name, []).append(figures)
        print(f"{part[:-1]:9} {name:34} {json.dumps(figures)}", flush=True)
        write_text(options.output, json.dumps(report, indent=1) + "\n")
    print_ratios(report["trainings"])


def about_this_machine() -> dict[str, Any]:
    """Return the device's name and the versions that the figures depend on."""
    import diffusers
    import peft
    import torch
    import transformers

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    libraries = {each.__name__: each.__version__ for each in (torch, transformers, diffusers, peft)}
    return {
        "date": datetime.now(tz=UTC).date().isoformat(),
        "device": device,
        "memory_cap": MEMORY,
        "versions": libraries,
    }


def measurements(tiny: bool, deadline: float) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield part, name and figures of each run, until the time is over: the trainings first, they are short."""
    late = {"not_run": "the time was over"}
    for _ in range((TINY if tiny else FULL).rounds):
        for contender in CONTENDERS:
            yield "trainings", contender, late if time.monotonic() > deadline else in_own_process(contender, tiny)
    with tempfile.TemporaryDirectory() as folder:
        repositories = make_repositories(full_size=not tiny)
        book = copy_book(Path(folder) / "book", repositories)
        with serving(repositories) as hub:
            for number in FETCHED:
                home = Path(folder) / number
                environment = environment_of(hub, book, home)
                figures = late if time.monotonic() > deadline else run_chapter(number, book, environment, tiny)
                yield "chapters", number, figures


def in_own_process(contender: str, tiny: bool) -> dict[str, Any]:
    """Return a contender's figures, or why it has none."""
    command = [sys.executable, __file__, "--one", contender, *(["--tiny"] if tiny else [])]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        return {"error": (finished.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    figures: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return figures


def run_chapter(number: str, book: Path, environment: dict[str, str], tiny: bool) -> dict[str, Any]:
    """Execute a chapter as the runner does, with the memory capped, and return its seconds, its peak, and its fault."""
    from nbformat import v4

    from aigc_helpers.publishing.builder import assemble, execute_and_judge, new_client
    from aigc_helpers.publishing.source import find_chapter, read_chapter

    notebook = assemble(read_chapter(find_chapter(number)), "en")
    if tiny:
        shorten(number, notebook)
    setup = next(place for place, cell in enumerate(notebook.cells) if "setup" in cell.metadata.get("tags", ()))
    notebook.cells.insert(setup + 1, v4.new_code_cell(_CAP))
    notebook.cells.append(v4.new_code_cell(_PEAK))
    started = time.monotonic()
    error = execute_and_judge(new_client(notebook, book / "chapters"), environment)
    figures: dict[str, Any] = {"seconds": round(time.monotonic() - started), "error": error}
    if error is None:
        figures["peak"] = int(notebook.cells[-1].outputs[0]["text"])
    return figures


_CAP = f"""\
import torch
if torch.cuda.is_available():
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, {MEMORY} / total))"""
_PEAK = """\
import resource
import torch
if torch.cuda.is_available():
    print(torch.cuda.max_memory_reserved())
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"""


# The trainings. A contender's name: model, number format, and what is done; the first of a model is what the others
# are compared with: the loop of diffusers' text-to-image LoRA example, or transformers' Trainer.


def train(contender: str, sizes: Sizes) -> dict[str, Any]:
    """Train one contender and return seconds per step, units per second, peak memory and the mean of its losses."""
    import torch

    exec(_CAP)
    torch.manual_seed(0)
    figures = CONTENDERS[contender](sizes)
    on_gpu = torch.cuda.is_available()
    return figures | ({"peak": torch.cuda.max_memory_reserved()} if on_gpu else {})


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _timed(step: Callable[[], torch.Tensor], units: int, sizes: Sizes) -> dict[str, Any]:
    """Time ``step`` after a warm-up; the losses are read back at the end, as reading waits for the GPU."""
    import torch

    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    for _ in range(sizes.warm_up):
        step()
    wait()
    started = time.perf_counter()
    losses = [step().detach() for _ in range(sizes.steps)]
    wait()
    seconds = (time.perf_counter() - started) / sizes.steps
    return {"seconds_per_step": seconds, "per_second": units / seconds, "loss": torch.stack(losses).mean().item()}


def _unet_with_lora(sizes: Sizes, dtype: torch.dtype, sdxl: bool = False) -> Any:  # noqa: ANN401 - diffusers' model
    import torch
    from diffusers import UNet2DConditionModel
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    shape: dict[str, Any] = {
        "attention_head_dim": 8,
        "block_out_channels": sizes.widths,
        "cross_attention_dim": sizes.width,
        "sample_size": sizes.side // 8,
    }
    if sdxl:
        shape = {
            "sample_size": sizes.side // 4,
            "cross_attention_dim": 2048,
            "attention_head_dim": (5, 10, 20),
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        }
    with torch.device(_device()):
        unet = UNet2DConditionModel(**shape)
    torch.nn.Module.to(unet, dtype).requires_grad_(False)
    unet.add_adapter(LoraConfig(r=16, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    cast_training_params(unet, dtype=torch.float32)
    return unet.train()


def _pictures(
    dtype_name: str, kept: bool = False, channels_last: bool = False, fused: bool = False, compiled: bool = False
) -> Callable[[Sizes], dict[str, Any]]:
    """Return a training of SD 1.5's UNet; without ``kept`` each step encodes its pictures and captions anew."""

    def run(sizes: Sizes) -> dict[str, Any]:
        import torch
        from diffusers import AutoencoderKL, DDIMScheduler
        from transformers import CLIPTextConfig, CLIPTextModel

        from aigc_helpers.images import denoising_loss

        dtype, device = getattr(torch, dtype_name), _device()
        unet = _unet_with_lora(sizes, dtype)
        with torch.device(device):
            vae = AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(128, 256, 512, 512) if sizes is FULL else (32, 32, 32, 32),
                layers_per_block=2,
            )
            shape = {"hidden_size": sizes.width, "intermediate_size": 4 * sizes.width}
            heads = {"num_attention_heads": sizes.width // 64, "num_hidden_layers": sizes.layers}
            text_encoder = CLIPTextModel(CLIPTextConfig(**shape, **heads))
        vae, text_encoder = torch.nn.Module.to(vae, dtype).eval(), text_encoder.to(dtype).eval()
        pixels = torch.rand(sizes.pictures, 3, sizes.side, sizes.side, device=device, dtype=dtype) * 2 - 1
        captions = torch.randint(0, 49408, (sizes.pictures, 77), device=device)
        scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")

        @torch.no_grad()
        def encode() -> dict[str, torch.Tensor]:
            latents = vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor
            return {"latents": latents, "text": text_encoder(captions).last_hidden_state}

        batch = encode()
        if kept:
            del vae, text_encoder
        if channels_last:
            unet.to(memory_format=torch.channels_last)
        model = torch.compile(unet) if compiled else unet
        trained = [each for each in unet.parameters() if each.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=fused and device == "cuda")
        scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)

        def step() -> torch.Tensor:
            with torch.autocast(device, dtype, enabled=dtype != torch.float32):
                loss = denoising_loss(model, batch if kept else encode(), scheduler)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            return loss

        return _timed(step, sizes.pictures, sizes)

    return run


def _sdxl(sizes: Sizes) -> dict[str, Any]:
    """Train SDXL's UNet with one picture of 1,024 pixels, with gradient checkpointing."""
    import torch

    if sizes is not FULL:
        return {"not_run": "there is no tiny one"}
    unet, device, dtype = _unet_with_lora(sizes, torch.float16, sdxl=True), _device(), torch.float16
    unet.enable_gradient_checkpointing()
    optimizer = torch.optim.AdamW([each for each in unet.parameters() if each.requires_grad], lr=1e-4)
    latents = torch.randn(1, 4, 128, 128, device=device, dtype=dtype)
    text = torch.randn(1, 77, 2048, device=device, dtype=dtype)
    added = {
        "text_embeds": torch.randn(1, 1280, device=device, dtype=dtype),
        "time_ids": torch.zeros(1, 6, device=device, dtype=dtype),
    }

    def step() -> torch.Tensor:
        with torch.autocast(device, dtype):
            answer = unet(latents, torch.tensor([500], device=device), text, added_cond_kwargs=added).sample
        loss = answer.float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return _timed(step, 1, sizes)


def _texts(kind: str, loop: str) -> Callable[[Sizes], dict[str, Any]]:
    """Return a LoRA training of bert-base or gpt2 on texts of many lengths, by ``fit`` or by transformers' Trainer."""

    def run(sizes: Sizes) -> dict[str, Any]:
        import torch

        generator = torch.Generator().manual_seed(0)
        count = sizes.texts * (sizes.warm_up + sizes.steps)
        lengths = torch.randint(sizes.tokens // 8, sizes.tokens + 1, (count,), generator=generator).tolist()
        ids = [torch.randint(1000, 30000, (length,), generator=generator).tolist() for length in lengths]
        labels = torch.randint(0, 2, (count,), generator=generator).tolist() if kind == "bert" else None
        model = _text_model_with_lora(kind, sizes).to(_device())
        return (_with_fit if loop == "fit" else _with_trainer)(model, ids, labels, sizes)

    return run


def _text_model_with_lora(kind: str, sizes: Sizes) -> Any:  # noqa: ANN401 - PEFT's models have no common public type
    from peft import LoraConfig, get_peft_model
    from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

    width, layers, heads = sizes.width, sizes.layers, sizes.width // 64
    if kind == "bert":
        shape = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
        base = BertForSequenceClassification(BertConfig(**shape, num_attention_heads=heads))
        return get_peft_model(base, LoraConfig(task_type="SEQ_CLS", r=8, target_modules=["query", "value"]))
    causal = GPT2LMHeadModel(GPT2Config(n_embd=width, n_layer=layers, n_head=heads, eos_token_id=0, bos_token_id=0))
    config = LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=["c_attn"], fan_in_fan_out=True)
    return get_peft_model(causal, config)


def _with_fit(model: Any, ids: list[list[int]], labels: list[int] | None, sizes: Sizes) -> dict[str, Any]:  # noqa: ANN401
    from aigc_helpers.profile import choose_profile
    from aigc_helpers.text import LengthBatches, classification_loss, next_token_loss
    from aigc_helpers.training import FitSettings, fit

    choose_profile("full")
    batches = LengthBatches(ids, labels, sizes.texts, 0)
    loss = next_token_loss if labels is None else classification_loss
    fit(model, batches, loss, FitSettings(epochs=sizes.warm_up / len(batches), learning_rate=1e-4))
    result = fit(model, batches, loss, FitSettings(epochs=1, learning_rate=1e-4))
    losses = result.curve("loss")[1]
    return {
        "seconds_per_step": result.training_seconds / result.steps,
        "per_second": result.throughput,
        "loss": sum(losses) / len(losses),
    }


def _with_trainer(model: Any, ids: list[list[int]], labels: list[int] | None, sizes: Sizes) -> dict[str, Any]:  # noqa: ANN401
    import torch
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments

    from aigc_helpers.profile import choose_profile

    def pad(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        padded = torch.tensor([row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in rows])
        mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in rows])
        answers = (
            padded.masked_fill(mask == 0, -100) if labels is None else torch.tensor([row["labels"] for row in rows])
        )
        return {"input_ids": padded, "attention_mask": mask, "labels": answers}

    precision = choose_profile("full").mixed_precision
    data = Dataset.from_dict({"input_ids": ids} | ({} if labels is None else {"labels": labels}))
    with tempfile.TemporaryDirectory() as folder:
        common = {
            "output_dir": folder,
            "learning_rate": 1e-4,
            "per_device_train_batch_size": sizes.texts,
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
            "fp16": precision == "fp16",
            "bf16": precision == "bf16",
            "use_cpu": _device() == "cpu",
        }
        Trainer(
            model, TrainingArguments(**common, max_steps=sizes.warm_up), train_dataset=data, data_collator=pad
        ).train()
        trainer = Trainer(model, TrainingArguments(**common, num_train_epochs=1), train_dataset=data, data_collator=pad)
        started = time.perf_counter()
        loss = trainer.train().training_loss
        seconds = time.perf_counter() - started
    steps = len(ids) // sizes.texts
    return {"seconds_per_step": seconds / steps, "per_second": sum(map(len, ids)) / seconds, "loss": loss}


def _chat(sizes: Sizes) -> dict[str, Any]:
    """Train a LoRA on a chat model of 1.5 billion parameters in 4 bits."""
    import importlib.util

    import torch

    if sizes is not FULL or importlib.util.find_spec("bitsandbytes") is None:
        return {"not_run": "bitsandbytes is not installed" if sizes is FULL else "there is no tiny one"}
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        vocab_size=151936,
        tie_word_embeddings=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        with torch.device("cuda"):
            Qwen2ForCausalLM(config).half().save_pretrained(folder)
        in_4_bits = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.float16,
            bnb_4bit_use_double_quant=True,
        )
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=in_4_bits, device_map={"": 0})
    model = prepare_model_for_kbit_training(model)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=16, target_modules="all-linear"))
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=2e-4)
    ids = torch.randint(0, 151936, (4, 512), device="cuda")

    def step() -> torch.Tensor:
        with torch.autocast("cuda", torch.float16):
            loss: torch.Tensor = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return _timed(step, ids.numel(), sizes)


CONTENDERS: dict[str, Callable[[Sizes], dict[str, Any]]] = {
    "bert-base, Trainer": _texts("bert", "trainer"),
    "bert-base, fit": _texts("bert", "fit"),
    "gpt2, Trainer": _texts("gpt2", "trainer"),
    "gpt2, fit": _texts("gpt2", "fit"),
    "sd-1.5 float16, encoding each step": _pictures("float16"),
    "sd-1.5 float16, kept": _pictures("float16", kept=True),
    "sd-1.5 bfloat16, encoding each step": _pictures("bfloat16"),
    "sd-1.5 bfloat16, kept": _pictures("bfloat16", kept=True),
    "sd-1.5 bfloat16, kept, channels last": _pictures("bfloat16", kept=True, channels_last=True),
    "sd-1.5 bfloat16, kept, fused AdamW": _pictures("bfloat16", kept=True, fused=True),
    "sd-1.5 bfloat16, kept, compiled": _pictures("bfloat16", kept=True, compiled=True),
    "sdxl float16, 1,024 pixels": _sdxl,
    "chat model of 1.5 billion, 4 bits": _chat,
}


def print_ratios(trainings: dict[str, list[dict[str, Any]]]) -> None:
    """Print how many times as fast each contender's better round was as that of the first of its model."""
    best = {
        name: max(run["per_second"] for run in runs if "per_second" in run)
        for name, runs in trainings.items()
        if any("per_second" in run for run in runs)
    }
    first: dict[str, float] = {}
    for name, rate in best.items():
        reference = first.setdefault(name.partition(",")[0], rate)
        print(f"{name:40} {rate:10.1f} per second, {rate / reference:5.2f} times the first of its model")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
