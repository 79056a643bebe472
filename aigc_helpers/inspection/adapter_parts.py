"""Which adapter a file or folder holds, and each layer's alpha: decided here for report and loader alike."""

from __future__ import annotations

from collections.abc import Sequence

from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import quoted, read_numbers
from aigc_helpers.inspection.adapter_keys import (
    PEFT_PREFIX,
    PIPELINE_COMPONENTS,
    Adapter,
    AdapterModule,
    sort_adapter_keys,
)
from aigc_helpers.inspection.adapter_settings import RankAndAlpha, is_alpha
from aigc_helpers.inspection.contents import Contents
from aigc_helpers.inspection.family import declared_family, family_of_adapter, is_transformer, names_language_model


def adapter_of(contents: Contents) -> Adapter | None:
    """Return the adapter that a file or folder holds, with each layer's component; None if it holds none.

    PEFT's names do not say the component: a folder does that is called like one. Several such folders in one are one
    adapter for all these components.

    Example:
        >>> from aigc_helpers import install
        >>> from aigc_helpers.inspection import read_contents
        >>> adapter = adapter_of(read_contents(install("tune-adapter")))
        >>> adapter.key_formats, adapter.modules[0].path, adapter.modules[0].rank
        (('PEFT',), 'transformer.h.0.attn.c_attn', 8)
    """
    if not contents.parts:
        return _adapter_in(contents)
    adapters = {name: adapter for name, part in contents.parts.items() if (adapter := _adapter_in(part))}
    if not adapters:
        return None
    return Adapter(
        key_formats=tuple(dict.fromkeys(each for adapter in adapters.values() for each in adapter.key_formats)),
        modules=tuple(module for adapter in adapters.values() for module in adapter.modules),
        saved_modules={
            f"{name}.{key.removeprefix(PEFT_PREFIX)}": tensor
            for name, adapter in adapters.items()
            for key, tensor in adapter.saved_modules.items()
        },
        words=tuple(dict.fromkeys(word for adapter in adapters.values() for word in adapter.words)),
    )


def _adapter_in(contents: Contents) -> Adapter | None:
    adapter = sort_adapter_keys(contents.tensors)
    if adapter is None:
        return None
    folder = contents.path.absolute().name if contents.path.is_dir() else ""
    component = folder if folder in PIPELINE_COMPONENTS else _component_by_family(adapter, contents)
    # GPT-2's adapter may lie in a folder called transformer, too.
    if component and (component != "transformer" or not names_language_model(adapter)):
        for module in adapter.modules:
            module.component = component
    return adapter


def _component_by_family(adapter: Adapter, contents: Contents) -> str:
    """Return the component of an adapter whose names do not say any, if its family draws with a transformer."""
    if any(module.component for module in adapter.modules):
        return ""
    family = family_of_adapter(adapter) or declared_family(contents.metadata)
    return "transformer" if is_transformer(family) else ""


def read_alphas(
    modules: Sequence[AdapterModule], said: Sequence[RankAndAlpha | None], contents: Contents
) -> list[float | None]:
    """Return each layer's alpha: that of its tensor, else that of the settings, else None.

    Args:
        modules: of the adapter.
        said: what the settings give to each of them.
        contents: where they stand; each file is opened once.

    Raises:
        ReaderError: a tensor called alpha is no single finite number.

    Example:
        >>> from aigc_helpers.inspection import adapter_of, read_contents
        >>> from aigc_helpers.paths import DATA
        >>> contents = read_contents(DATA / "loras" / "koala.safetensors")
        >>> modules = adapter_of(contents).modules
        >>> set(read_alphas(modules, [None] * len(modules), contents))
        {8.0}
    """
    stored = {}
    wanted = {module.names["alpha"] for module in modules if "alpha" in module.names}
    for path, header in contents.headers.items():
        for name, alpha in read_numbers(path, header, wanted & header.tensors.keys()).items():
            if not is_alpha(alpha):
                raise ReaderError(
                    f"{path}: the alpha {quoted(name)} is no single finite number, or one that no training has. Tell "
                    "its author."
                )
            stored[name] = alpha
    return [
        stored[module.names["alpha"]] if "alpha" in module.names else strength.alpha if strength else None
        for module, strength in zip(modules, said, strict=True)
    ]
