"""The exercises of chapter 09, Stable Diffusion."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aigc_helpers.notebook import Exercise, Mistake, Test, Text, gives

if TYPE_CHECKING:
    from torch import Tensor


def _answers() -> Tensor:
    """Return what a UNet might answer to two questions: 2 × channels × height × width, always the same."""
    import torch

    return torch.randn((2, 4, 3, 3), generator=torch.Generator().manual_seed(0))


def _guides_with(formula: Callable[[Tensor, Tensor, float], Tensor]) -> Test:
    """Make a test: the answer mixes both halves as ``formula`` does."""

    def test(answer: Any) -> bool:  # noqa: ANN401 - whatever the reader wrote
        import torch

        both = _answers()
        for guidance in (0.0, 1.0, 4.0, 7.5):
            expected = formula(both[:1], both[1:], guidance)
            given = answer(both.clone(), guidance)
            if given.shape != expected.shape or not torch.allclose(given, expected, atol=1e-4):
                return False
        return True

    return test


def _pixels() -> Tensor:
    """Return 1 × 3 × 2 × 4 numbers as an autoencoder gives them: some outside of -1 to 1, one that truncation shows."""
    import torch

    numbers = torch.linspace(-1.2, 1.2, 24)
    numbers[12] = 0.9999
    return numbers.reshape(1, 3, 2, 4)


def _picture(rounded: bool = True, clamped: bool = True) -> Tensor:
    """Return the right picture of ``_pixels``, or one made with a mistake."""
    brightness = (_pixels()[0] / 2 + 0.5) * 255
    if clamped:
        brightness = brightness.clamp(0, 255)
    return (brightness.round() if rounded else brightness.floor()).permute(1, 2, 0)


def _makes(expected: Callable[[], Tensor]) -> Test:
    """Make a test: the answer gives the numbers of ``expected``, in the same shape."""

    def test(answer: Any) -> bool:  # noqa: ANN401
        import torch

        given, right = torch.as_tensor(answer(_pixels())), expected()
        return given.shape == right.shape and bool((given.double() == right.double()).all())

    return test


def _whole_numbers(answer: Any) -> bool | Text:  # noqa: ANN401
    import torch

    given = torch.as_tensor(answer(_pixels()))
    if given.dtype.is_floating_point:
        return Text(
            "The numbers are right, but still floating point: .byte()",
            "数值对了，但还是浮点数：用 .byte()",
        )
    return True


def _steps_with(formula: Callable[[Tensor, Tensor, float, float], Tensor]) -> Test:
    """Make a test: the answer's step is that of ``formula``."""

    def test(answer: Any) -> bool:  # noqa: ANN401
        import torch

        latents, noise = _answers()
        for alpha_now, alpha_next in ((0.05, 0.2), (0.5, 0.6), (0.8, 0.99)):
            expected = formula(latents, noise, alpha_now, alpha_next)
            if not torch.allclose(
                answer(latents.clone(), noise.clone(), alpha_now, alpha_next),
                expected,
                atol=1e-4,
            ):
                return False
        return True

    return test


def _clean(latents: Tensor, noise: Tensor, alpha: float) -> Tensor:
    return (latents - (1 - alpha) ** 0.5 * noise) / alpha**0.5


EXERCISES = [
    Exercise(
        "09-1",
        Text("How many latents does the UNet work on?", "UNet 一共要算多少份潜变量？"),
        tests=[
            gives((1, 20, 4.0), 40),
            gives((3, 10, 7.5), 60),
            gives((2, 7, 1.0), 14),
            gives((1, 5, 0.5), 5),
        ],
        mistakes=[
            Mistake(
                "guidance is free",
                gives((1, 20, 4.0), 20),
                Text(
                    "With guidance every question is asked twice: prompt and empty prompt.",
                    "有引导时每个问题要问两遍：有提示词一遍，空提示词一遍。",
                ),
            ),
            Mistake(
                "always twice",
                gives((2, 7, 1.0), 28),
                Text(
                    "At guidance 1 the empty prompt's answer cancels out, and the pipeline does not ask for it.",
                    "引导强度为 1 时，空提示词的回答正好消掉，流水线根本不去问。",
                ),
            ),
        ],
        hints=[
            Text(
                "Look at the list of section 10: [2, 2, 2, 1, 1, 1].",
                "看看第 10 节的列表：[2, 2, 2, 1, 1, 1]。",
            ),
            Text(
                "pictures × steps × 2, or × 1 if guidance is not above 1.",
                "张数 × 步数 × 2；引导强度不大于 1 时是 × 1。",
            ),
        ],
    ),
    Exercise(
        "09-2",
        Text("Write the guidance formula.", "写出引导公式。"),
        tests=[_guides_with(lambda empty, named, guidance: empty + guidance * (named - empty))],
        mistakes=[
            Mistake(
                "halves swapped",
                _guides_with(lambda empty, named, guidance: named + guidance * (empty - named)),
                Text(
                    "The two halves are swapped: the first answer is the empty prompt's.",
                    "两半弄反了：前一半才是空提示词的回答。",
                ),
            ),
            Mistake(
                "starts from the prompt's answer",
                _guides_with(lambda empty, named, guidance: named + guidance * (named - empty)),
                Text(
                    "That is the paper's w, which is guidance − 1. Start from the empty prompt's answer.",
                    "那是论文里的 w，等于引导强度 − 1。这里要从空提示词的回答出发。",
                ),
            ),
            Mistake(
                "difference alone",
                _guides_with(lambda empty, named, guidance: guidance * (named - empty)),
                Text(
                    "That is only the exaggerated difference; add the empty prompt's answer.",
                    "这只是放大后的差别，还要加上空提示词的回答。",
                ),
            ),
        ],
        hints=[
            Text("both.chunk(2) gives the two halves.", "both.chunk(2) 把它分成两半。"),
            Text(
                "empty + guidance · (named − empty), as in section 7.",
                "空 + 引导强度 ·（有提示词 − 空），见第 7 节。",
            ),
        ],
    ),
    Exercise(
        "09-3",
        Text("Turn the autoencoder's answer into a picture.", "把自编码器的输出变成图片。"),
        tests=[_makes(_picture), _whole_numbers],
        mistakes=[
            Mistake(
                "channels first",
                _makes(lambda: _picture().permute(2, 0, 1)),
                Text(
                    "Colours come last in a picture: permute(1, 2, 0).",
                    "图片里颜色放在最后一维：permute(1, 2, 0)。",
                ),
            ),
            Mistake(
                "truncated",
                _makes(lambda: _picture(rounded=False)),
                Text(
                    "byte() cuts the decimals off; round() first.",
                    "byte() 直接截掉小数，要先 round()。",
                ),
            ),
            Mistake(
                "not clamped",
                _makes(lambda: _picture(clamped=False).long().remainder(256)),
                Text(
                    "Numbers outside 0 to 255 wrap around: what is brighter than white turns black. clamp() first.",
                    "超出 0 到 255 的数会绕回来，比白还亮的变成黑。要先 clamp()。",
                ),
            ),
        ],
        hints=[
            Text(
                "From −1…1 to 0…1: divide by 2, add 0.5.",
                "从 −1…1 到 0…1：除以 2，再加 0.5。",
            ),
            Text(
                "Then clamp(0, 1), times 255, round(), permute(1, 2, 0), byte(): section 8 does it.",
                "然后 clamp(0, 1)、乘 255、round()、permute(1, 2, 0)、byte()：第 8 节里就有。",
            ),
        ],
    ),
    Exercise(
        "09-4",
        Text("Write one step of DDIM.", "写出 DDIM 的一步。"),
        tests=[
            _steps_with(
                lambda latents, noise, now, following: (
                    following**0.5 * _clean(latents, noise, now) + (1 - following) ** 0.5 * noise
                )
            )
        ],
        mistakes=[
            Mistake(
                "stops at the picture",
                _steps_with(lambda latents, noise, now, following: _clean(latents, noise, now)),
                Text(
                    "That is the picture as the UNet sees it now. Mix it with the noise for the next time step.",
                    "这是 UNet 此刻看到的画。还要按下一个时间步的比例和噪声混合。",
                ),
            ),
            Mistake(
                "no square roots",
                _steps_with(
                    lambda latents, noise, now, following: (
                        following * (latents - (1 - now) * noise) / now + (1 - following) * noise
                    )
                ),
                Text(
                    "The factors are square roots: √ᾱ and √(1 − ᾱ).",
                    "系数要开平方：√ᾱ 和 √(1 − ᾱ)。",
                ),
            ),
            Mistake(
                "the same time step again",
                _steps_with(lambda latents, noise, now, following: latents),
                Text(
                    "You mixed with ᾱ of now and got the latents back. The mixture needs ᾱ of the next time step.",
                    "你用现在的 ᾱ 混回去，等于什么都没做。混合时要用下一个时间步的 ᾱ。",
                ),
            ),
        ],
        hints=[
            Text(
                "Solve latents = √ᾱ · picture + √(1 − ᾱ) · noise for the picture.",
                "从 潜变量 = √ᾱ · 画 + √(1 − ᾱ) · 噪声 里解出画。",
            ),
            Text(
                "picture = (latents − (1 − alpha_now) ** 0.5 · noise) / alpha_now ** 0.5; then the same formula "
                "forwards, with alpha_next.",
                "画 = (latents − (1 − alpha_now) ** 0.5 · noise) / alpha_now ** 0.5；再用 alpha_next 正着算一遍。",
            ),
        ],
    ),
]

WRONG_ANSWERS = {
    "09-1": [
        ("return pictures * steps", "guidance is free"),
        ("return 2 * pictures * steps", "always twice"),
    ],
    "09-2": [
        (
            "with_prompt, without = both.chunk(2)\nreturn without + guidance * (with_prompt - without)",
            "halves swapped",
        ),
        (
            "without, with_prompt = both.chunk(2)\nreturn with_prompt + guidance * (with_prompt - without)",
            "starts from the prompt's answer",
        ),
        (
            "without, with_prompt = both.chunk(2)\nreturn guidance * (with_prompt - without)",
            "difference alone",
        ),
    ],
    "09-3": [
        (
            "return ((pixels[0] / 2 + 0.5).clamp(0, 1) * 255).round().byte()",
            "channels first",
        ),
        (
            "return ((pixels[0] / 2 + 0.5).clamp(0, 1) * 255).permute(1, 2, 0).byte()",
            "truncated",
        ),
        (
            "return ((pixels[0] / 2 + 0.5) * 255).round().permute(1, 2, 0).long().remainder(256).byte()",
            "not clamped",
        ),
    ],
    "09-4": [
        (
            "return (latents - (1 - alpha_now) ** 0.5 * noise) / alpha_now**0.5",
            "stops at the picture",
        ),
        (
            "return alpha_next * (latents - (1 - alpha_now) * noise) / alpha_now + (1 - alpha_next) * noise",
            "no square roots",
        ),
        (
            "picture = (latents - (1 - alpha_now) ** 0.5 * noise) / alpha_now**0.5\n"
            "return alpha_now**0.5 * picture + (1 - alpha_now) ** 0.5 * noise",
            "the same time step again",
        ),
    ],
}
