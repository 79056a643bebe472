"""``aigc generate``: poems on the screen, pictures in files."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from aigc_helpers.arguments import named
from aigc_helpers.errors import WrongUsageError
from aigc_helpers.files import replacing

_LONGEST_NAME = 80  # Characters; file systems take 255 bytes, and a Chinese character has three.


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the others."""
    generate = commands.add_parser("generate", help="draw pictures or write poems")
    generate.add_argument("positional_prompt", nargs="?", metavar="PROMPT", help="what to draw, or how a poem begins")
    generate.add_argument("--prompt", help="the same, as an option")
    generate.add_argument("--model", default="sd", help="sd for pictures (default) or poet for poems")
    generate.add_argument("-n", dest="count", type=int, default=1, metavar="COUNT", help="how many (default 1)")
    generate.add_argument("--seed", type=int, default=0, help="the same seed gives the same result (default 0)")
    generate.add_argument("--lora", type=named, metavar="FILE", help="a LoRA for the model: its file or folder")
    generate.add_argument(
        "--scale", type=float, default=1.0, help="how much of the LoRA: 0 none, 1 as trained (default)"
    )
    pictures = generate.add_argument_group("pictures only")
    pictures.add_argument("-o", dest="output", type=named, metavar="FILE.png", help="by default named after the prompt")
    pictures.add_argument("--negative", metavar="TEXT", help="what to steer away from")
    pictures.add_argument("--steps", type=int, help="of denoising (default 20)")
    pictures.add_argument("--guidance", type=float, help="how strongly the prompt steers (default 4.0)")
    pictures.add_argument("--list", action="store_true", help="print the words that prompts are made of")
    generate.set_defaults(function=_generate)


def _generate(options: argparse.Namespace) -> int:
    if options.model == "poet" and (options.list or options.output is not None):
        raise WrongUsageError("-o and --list can only be used for pictures (--model sd). The poet prints its poems.")
    if options.list:
        print(_list_words())
        return 0
    prompt = _prompt(options)
    from aigc_helpers import generate

    chosen = {"steps": options.steps, "guidance": options.guidance, "negative_prompt": options.negative}
    settings = {name: value for name, value in chosen.items() if value is not None}
    settings |= {name: getattr(options, name) for name in ("count", "seed", "lora", "scale")}
    if options.model == "poet":
        print("\n\n".join(generate(prompt, "poet", **settings)))
        return 0
    return _draw(prompt, options, settings)


def _prompt(options: argparse.Namespace) -> str:
    if options.prompt is not None and options.positional_prompt is not None:
        raise WrongUsageError(
            f"two prompts were given, {options.positional_prompt!r} and {options.prompt!r}. Leave one of them out."
        )
    prompt = options.positional_prompt if options.prompt is None else options.prompt
    if prompt is None or not prompt.strip():
        example = "--model poet 春" if options.model == "poet" else '"tiger, noto style, blue background"'
        raise WrongUsageError(f"the prompt is missing or empty. For example: aigc generate {example}")
    return prompt


def _draw(prompt: str, options: argparse.Namespace, settings: dict[str, Any]) -> int:
    output = options.output or Path(re.sub(r"\W+", "-", prompt).strip("-")[:_LONGEST_NAME] + ".png")
    if output.suffix.lower() != ".png" or output.is_dir():
        raise WrongUsageError(f"{output} is no name for a picture: pictures are PNG files, such as tiger.png.")
    from aigc_helpers import generate

    pictures = generate(prompt, options.model, **settings)
    for number, picture in enumerate(pictures, start=1):
        path = output if len(pictures) == 1 else output.with_stem(f"{output.stem}-{number}")
        with replacing(path) as unfinished:
            picture.save(unfinished, format="PNG")
        print(path)
    return 0


def _list_words() -> str:
    from aigc_helpers.images import BACKGROUNDS, STYLES, load_emoji, read_shown_in_training

    emoji = load_emoji()
    shown = read_shown_in_training()
    names = [
        f"{english}  {chinese}"
        for name, english, chinese in zip(emoji.names, emoji.english, emoji.chinese, strict=True)
        if name in set(shown.concepts)
    ]
    others = [style for style in STYLES if style not in shown.styles]
    return "\n".join(
        [
            'A prompt: "tiger, noto style, blue background" or "老虎，noto 风格，蓝色背景".',
            f"\n{len(names)} concepts that the model was taught to draw (it knows the names of "
            f"{len(emoji.names) - len(names)} more, which LoRAs can teach it):\n",
            *names,
            f"\nStyles: {', '.join(shown.styles)} (and for LoRAs to teach: {', '.join(others)})",
            "\nBackground colours:\n",
            *(f"{background.name}  {background.chinese}" for background in BACKGROUNDS),
        ]
    )
