"""How a model's weights are quantised, from what lies beside them: scales, zero points, tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aigc_helpers.inspection.adapter_keys import Shaped
from aigc_helpers.inspection.training_metadata import printable

# Names that only one way of quantising writes, what it is called, and whether it packs several weights into a number.
_SIGNS = tuple(
    (re.compile(pattern), name, packed)
    for pattern, name, packed in (
        (r"\.quant_state\.bitsandbytes__nf4$", "bitsandbytes, NF4", True),
        (r"\.quant_state\.bitsandbytes__fp4$", "bitsandbytes, FP4", True),
        (r"\.SCB$", "bitsandbytes, 8-bit", False),
        (r"\.qweight$", "GPTQ or AWQ", True),
        (r"\.weight_packed$", "compressed-tensors", True),
        (r"\.W_q$", "HQQ", True),
        (r"\.weight_scale_2$", "NVFP4", True),
        (r"_(proj|weight)_blocks$", "MXFP4", True),
        (r"\.biases$", "MLX", True),
        (r"(^|\.)scaled_fp8$|\.scale_weight$|\.weight_scale(_inv)?$", "8-bit with scales", False),
    )
)
_METHODS = {"gptq": "GPTQ", "awq": "AWQ", "mxfp4": "MXFP4", "hqq": "HQQ"}


def quantisation(tensors: Mapping[str, Shaped], config: Mapping[str, Any]) -> str | None:
    """Return, in a sentence, how the weights are quantised; None if nothing beside them says so.

    Args:
        tensors: of a model, by name.
        config: its ``config.json``; empty if there is none.

    Example:
        >>> from aigc_helpers import install
        >>> from aigc_helpers.inspection import read_contents
        >>> print(quantisation(read_contents(install("poet")).tensors, {}))
        None
    """
    names = list(tensors)
    # MLX's biases stand beside scales; a layer's own bias is called bias.
    found = next(
        (
            (name, packed)
            for sign, name, packed in _SIGNS
            if any(sign.search(each) for each in names) and (name != "MLX" or any(n.endswith(".scales") for n in names))
        ),
        None,
    )
    said = config.get("quantization_config")
    method = said.get("quant_method") if isinstance(said, dict) else None
    if found is None:
        return (
            f"Its configuration says that it is quantised ({printable(method)}), and no tensor here shows how."
            if isinstance(method, str)
            else None
        )
    name, packed = found
    if isinstance(method, str) and name == "GPTQ or AWQ":
        name = _METHODS.get(method, printable(method))
    if packed:
        return (
            f"Quantised ({name}): one stored number holds several weights, so the model has more parameters than the "
            "numbers counted here."
        )
    return f"Quantised ({name}): a weight is the stored number times a scale that lies beside it."
