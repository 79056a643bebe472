"""The exercises of chapter 08, diffusion from scratch."""

from __future__ import annotations

from typing import Any

from aigc_helpers.notebook import Exercise, Mistake, Test, Text, gives

_BETAS = ([0.1, 0.2, 0.5], 2)


def _points(seed: int, count: int) -> list[Any]:
    import torch

    return list(torch.randn(count, 5, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def _noise_is(from_velocity: float, from_x_t: float) -> Test:
    """Return a test: at ᾱ = 0.64 (a = 0.8, s = 0.6) the answer is this mixture of ``velocity`` and ``x_t``."""

    def test(answer: Any) -> bool:  # noqa: ANN401
        import torch

        x_t, velocity = _points(0, 2)
        expected = from_velocity * velocity + from_x_t * x_t
        return torch.allclose(answer(x_t, velocity, 0.64), expected, atol=1e-6)

    return test


def _step_is(now: float, before: float, x_t: float, clean: float, fresh: float) -> Test:
    """Return a test: with these ᾱ the answer is this mixture of the three tensors."""

    def test(answer: Any) -> bool:  # noqa: ANN401
        import torch

        tensors = _points(1, 3)
        expected = x_t * tensors[0] + clean * tensors[1] + fresh * tensors[2]
        return torch.allclose(answer(*tensors, now, before), expected, atol=1e-6)

    return test


# ᾱ from 0.36 to 0.64: α = 0.5625, β = 0.4375, 1 − ᾱ = 0.64 and 0.36.
_FROM_CLEAN, _FROM_X_T, _VARIANCE = (
    0.8 * 0.4375 / 0.64,
    0.75 * 0.36 / 0.64,
    0.36 / 0.64 * 0.4375,
)


def _loss_is(target: str, roots: bool = True, first_only: bool = False) -> Test:
    """Return a test on 4 pictures of 3 × 4 × 4: the loss is that of a model that answers with twice its input."""

    def test(answer: Any) -> bool:  # noqa: ANN401
        import torch

        generator = torch.Generator().manual_seed(2)
        clean, noise = torch.randn(2, 4, 3, 4, 4, generator=generator, dtype=torch.float64)
        t, kept = (
            torch.tensor([0, 2, 1, 2]),
            torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64),
        )
        chosen = kept[t] if first_only else kept[t].view(-1, 1, 1, 1)
        a, s = (chosen.sqrt(), (1 - chosen).sqrt()) if roots else (chosen, 1 - chosen)
        expected = (2 * (a * clean + s * noise) - {"noise": noise, "clean": clean}[target]).square().mean()
        given = answer(lambda x_t, _: 2 * x_t, clean, noise, t, kept)
        return given.shape == expected.shape and torch.allclose(given, expected, atol=1e-9)

    return test


def _asks_with_the_time_steps(answer: Any) -> bool:  # noqa: ANN401
    import torch

    asked = []

    def predict(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        asked.append(t)
        return x_t

    t = torch.tensor([1, 0])
    answer(predict, torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 4), t, torch.tensor([0.9, 0.5]))
    return len(asked) == 1 and torch.equal(asked[0], t)


EXERCISES = [
    Exercise(
        "08-1",
        Text("How much of the picture is left?", "原图还剩多少？"),
        tests=[
            gives(_BETAS, 0.72**0.5, tolerance=1e-9),
            gives(([0.1, 0.2, 0.5], 3), 0.6, tolerance=1e-9),
            gives(([0.3], 0), 1.0, tolerance=1e-9),
        ],
        mistakes=[
            Mistake(
                "the root is missing",
                gives(_BETAS, 0.72, tolerance=1e-9),
                Text(
                    "That is ᾱ. The factor before x₀ is its square root.",
                    "这是 ᾱ，x₀ 前面的系数是它的平方根。",
                ),
            ),
            Mistake(
                "betas instead of alphas",
                gives(_BETAS, 0.02**0.5, tolerance=1e-9),
                Text(
                    "Multiply what each step keeps, 1 − β, not what it adds.",
                    "相乘的是每步留下的 1 − β，不是加进去的 β。",
                ),
            ),
            Mistake(
                "every step",
                gives(_BETAS, 0.6, tolerance=1e-9),
                Text(
                    "Those are all the steps; only the first few were asked for.",
                    "你算了所有步，只要前几步。",
                ),
            ),
        ],
        hints=[
            Text("Look at the closed form in section 1.", "看第 1 节的闭式公式。"),
            Text(
                "math.prod(1 - beta for beta in betas[:steps]) is ᾱ.",
                "先求 ᾱ：math.prod(1 - beta for beta in betas[:steps])。",
            ),
        ],
    ),
    Exercise(
        "08-2",
        Text("From velocity to noise.", "由速度求噪声。"),
        tests=[_noise_is(0.8, 0.6)],
        mistakes=[
            Mistake(
                "the picture",
                _noise_is(-0.6, 0.8),
                Text(
                    "That is the picture, x₀. The noise was asked for.",
                    "这是原图 x₀，要的是噪声。",
                ),
            ),
            Mistake(
                "the sign",
                _noise_is(0.8, -0.6),
                Text(
                    "One sign is wrong: put v = a·ε − s·x₀ in and see.",
                    "有一个符号错了：把 v = a·ε − s·x₀ 代进去看看。",
                ),
            ),
            Mistake(
                "no roots",
                _noise_is(0.64, 0.36),
                Text(
                    "a and s are square roots: a = √ᾱ, s = √(1 − ᾱ).",
                    "a 和 s 是平方根：a = √ᾱ，s = √(1 − ᾱ)。",
                ),
            ),
        ],
        hints=[
            Text(
                "Section 3 has the formula, the third of the four.",
                "公式在第 3 节，四个里的第三个。",
            ),
            Text(
                "ε = s · x_t + a · v, with s = (1 - alpha_bar) ** 0.5",
                "即 ε = s · x_t + a · v，其中 s = (1 - alpha_bar) ** 0.5。",
            ),
        ],
    ),
    Exercise(
        "08-3",
        Text(
            "DDPM's step for a model that predicts the picture.",
            "预测原图的模型，走一步 DDPM。",
        ),
        tests=[
            _step_is(0.36, 0.64, _FROM_X_T, _FROM_CLEAN, _VARIANCE**0.5),
            _step_is(0.36, 1.0, 0.0, 1.0, 0.0),
        ],
        mistakes=[
            Mistake(
                "variance for deviation",
                _step_is(0.36, 0.64, _FROM_X_T, _FROM_CLEAN, _VARIANCE),
                Text(
                    "Noise is multiplied by the root of the variance.",
                    "噪声要乘标准差，即方差的平方根。",
                ),
            ),
            Mistake(
                "no fresh noise",
                _step_is(0.36, 0.64, _FROM_X_T, _FROM_CLEAN, 0.0),
                Text(
                    "That is the mean. DDPM draws: the fresh noise is missing.",
                    "这只是均值。DDPM 要抽样，还缺新噪声。",
                ),
            ),
            Mistake(
                "the large variance",
                _step_is(0.36, 0.64, _FROM_X_T, _FROM_CLEAN, 0.4375**0.5),
                Text(
                    "That is fixed_large. Asked for is fixed_small, the variance of the posterior.",
                    "这是 fixed_large。要的是 fixed_small，即后验分布的方差。",
                ),
            ),
        ],
        hints=[
            Text(
                "μ̃ of section 4 needs x₀, and here you have it.",
                "第 4 节的 μ̃ 需要 x₀，这里正好有。",
            ),
            Text(
                "Mean and variance stand in posterior(...); then mean + √variance · fresh.",
                "均值和方差见 posterior(...)，再算 均值 + √方差 · fresh。",
            ),
        ],
    ),
    Exercise(
        "08-4",
        Text("Write the loss for pictures.", "为图片写损失。"),
        tests=[_loss_is("noise"), _asks_with_the_time_steps],
        mistakes=[
            Mistake(
                "stretched along the wrong axis",
                _loss_is("noise", first_only=True),
                Text(
                    "Four numbers for four pictures were laid along the last axis, the width. They need the shape "
                    "(count, 1, 1, 1).",
                    "四张图的四个数被铺到了最后一维（宽）上。把它们变成形状（张数, 1, 1, 1）。",
                ),
            ),
            Mistake(
                "no roots",
                _loss_is("noise", roots=False),
                Text(
                    "The factors are square roots of ᾱ and 1 − ᾱ.",
                    "系数是 ᾱ 和 1 − ᾱ 的平方根。",
                ),
            ),
            Mistake(
                "compared with the picture",
                _loss_is("clean"),
                Text(
                    "The model answers with noise: compare with the noise.",
                    "模型回答的是噪声，要和噪声比。",
                ),
            ),
        ],
        hints=[
            Text(
                "Three lines: ᾱ for each picture, the mixture, the squared error.",
                "三行：每张图的 ᾱ、混合、平方误差。",
            ),
            Text(
                "alpha_bar = alphas_bar[t].view(-1, 1, 1, 1)",
                "先写 alpha_bar = alphas_bar[t].view(-1, 1, 1, 1)。",
            ),
            Text(
                "Then x_t = √ᾱ · clean + √(1 − ᾱ) · noise, as in section 1.",
                "再写 x_t = √ᾱ · clean + √(1 − ᾱ) · noise，同第 1 节。",
            ),
        ],
    ),
]

_STEP = (
    "beta = 1 - now / before\n"
    "mean = (before**0.5 * beta * clean + (now / before) ** 0.5 * (1 - before) * x_t) / (1 - now)\n"
)
_MIXED = "x_t = a.sqrt() * clean + (1 - a).sqrt() * noise\nreturn (predict(x_t, t) - noise).square().mean()"

WRONG_ANSWERS = {
    "08-1": [
        ("return math.prod(1 - beta for beta in betas[:steps])", "the root is missing"),
        ("return math.prod(betas[:steps]) ** 0.5", "betas instead of alphas"),
        ("return math.prod(1 - beta for beta in betas) ** 0.5", "every step"),
    ],
    "08-2": [
        ("return alpha_bar**0.5 * x_t - (1 - alpha_bar) ** 0.5 * velocity", "the picture"),
        ("return alpha_bar**0.5 * velocity - (1 - alpha_bar) ** 0.5 * x_t", "the sign"),
        ("return (1 - alpha_bar) * x_t + alpha_bar * velocity", "no roots"),
    ],
    "08-3": [
        (
            f"{_STEP}return mean + beta * (1 - before) / (1 - now) * fresh",
            "variance for deviation",
        ),
        (f"{_STEP}return mean", "no fresh noise"),
        (f"{_STEP}return mean + beta**0.5 * fresh", "the large variance"),
    ],
    "08-4": [
        (f"a = alphas_bar[t]\n{_MIXED}", "stretched along the wrong axis"),
        (
            "a = alphas_bar[t].view(-1, 1, 1, 1)\nx_t = a * clean + (1 - a) * noise\n"
            "return (predict(x_t, t) - noise).square().mean()",
            "no roots",
        ),
        (
            f"a = alphas_bar[t].view(-1, 1, 1, 1)\n{_MIXED.replace('- noise)', '- clean)')}",
            "compared with the picture",
        ),
    ],
}
