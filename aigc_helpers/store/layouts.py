"""Where each kind of weight file belongs: in our own store, in AUTOMATIC1111's web UI, in Forge, or in ComfyUI."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from aigc_helpers.errors import ReaderError, UnknownNameError, WrongUsageError
from aigc_helpers.formats import GGUF
from aigc_helpers.inspection import (
    CONTROLNET,
    EMPTY_MATRICES,
    FLUX1,
    HYPERNETWORK,
    IP_ADAPTER,
    KOHYA,
    MINIATURE,
    MLX_ADAPTER,
    REFINER,
    SD1,
    SD2,
    SDXL,
    STABLE_DIFFUSION_3,
    T2I_ADAPTER,
    TRANSFORMER,
    UPSCALER,
    VISION_ENCODER,
    Inspection,
    draws,
    may_be_same,
)
from aigc_helpers.store.location import store_folder

_ADAPTER, _CHECKPOINT, _EMBEDDING, _TEXT_ENCODER, _UNET, _VAE = (
    "LoRA",
    "full checkpoint",
    "textual inversion",
    "text encoder",
    "UNet",
    "VAE",
)
_UNKNOWN_TRANSFORMER = f"a {TRANSFORMER} that is not known here"
_CONVERTED = {"LoRA", "DoRA", "LoRA and DoRA", "DoRA and LoRA"}  # What aigc convert takes.
_OF_THE_UNET = (SD1, SD2, SDXL, REFINER, MINIATURE)
_BY_AN_EXTENSION = {CONTROLNET, IP_ADAPTER, T2I_ADAPTER}


@dataclass(frozen=True)
class Layout:
    """How a program lays out its folders.

    Attributes:
        program: its name.
        folders: per kind of file, the folder under the program's own.
        sign: a folder that every copy of the program has.
        families: the models that it draws with; empty for all that draw.
        extensions: per kind of file, what has to be added to the program before it reads such files.
    """

    program: str
    folders: dict[str, str]
    sign: str
    families: tuple[str, ...] = ()
    extensions: dict[str, str] = field(default_factory=dict)


OUR_OWN = "aigc"
_A1111 = {
    _CHECKPOINT: "models/Stable-diffusion",
    _ADAPTER: "models/Lora",
    _VAE: "models/VAE",
    _EMBEDDING: "embeddings",
    UPSCALER: "models/ESRGAN",
    **dict.fromkeys(_BY_AN_EXTENSION, "models/ControlNet"),
}
LAYOUTS = {
    OUR_OWN: Layout(
        "the workbook's store",
        {
            _CHECKPOINT: "checkpoints",
            _ADAPTER: "loras",
            _VAE: "vae",
            _EMBEDDING: "embeddings",
            _TEXT_ENCODER: "text_encoders",
            _UNET: "diffusion_models",
            TRANSFORMER: "diffusion_models",
            UPSCALER: "upscale_models",
            CONTROLNET: "controlnet",
            T2I_ADAPTER: "controlnet",
            IP_ADAPTER: "ipadapter",
            VISION_ENCODER: "clip_vision",
            MLX_ADAPTER: "loras",
        },
        "",
    ),
    "a1111": Layout(
        "AUTOMATIC1111's web UI",
        _A1111,
        "models/Stable-diffusion",
        (*_OF_THE_UNET, STABLE_DIFFUSION_3),
        dict.fromkeys(_BY_AN_EXTENSION, "sd-webui-controlnet"),
    ),
    "forge": Layout(
        "Forge",
        {**_A1111, _TEXT_ENCODER: "models/text_encoder", _UNET: _A1111[_CHECKPOINT], TRANSFORMER: _A1111[_CHECKPOINT]},
        "models/Stable-diffusion",
        (*_OF_THE_UNET, STABLE_DIFFUSION_3, FLUX1, "Chroma"),
    ),
    "comfyui": Layout(
        "ComfyUI",
        {
            _CHECKPOINT: "models/checkpoints",
            _ADAPTER: "models/loras",
            _VAE: "models/vae",
            _EMBEDDING: "models/embeddings",
            _TEXT_ENCODER: "models/clip",
            _UNET: "models/diffusion_models",
            TRANSFORMER: "models/diffusion_models",
            UPSCALER: "models/upscale_models",
            CONTROLNET: "models/controlnet",
            T2I_ADAPTER: "models/controlnet",
            IP_ADAPTER: "models/ipadapter",
            VISION_ENCODER: "models/clip_vision",
        },
        "models/checkpoints",
        extensions={IP_ADAPTER: "ComfyUI_IPAdapter_plus"},
    ),
}


def root_of(layout: str, to: Path | None) -> Path:
    """Return the folder of the program whose ``layout`` is asked for.

    Args:
        layout: ``"aigc"``, ``"a1111"``, ``"forge"`` or ``"comfyui"``.
        to: the program's folder; none for our own store, which ``AIGC_HOME`` names.

    Raises:
        UnknownNameError: there is no such layout.
        WrongUsageError: only one of the two is given.
        ReaderError: ``to`` is no folder, or not one of that program.
    """
    if layout not in LAYOUTS:
        raise UnknownNameError("layout", layout, LAYOUTS)
    if (layout == OUR_OWN) != (to is None):
        raise WrongUsageError(
            "the layouts a1111, forge and comfyui need to be told the folder in which that program lies (to), and that "
            "folder needs one of these layouts. (AIGC_HOME moves our own store.)"
        )
    if to is None:
        return store_folder()
    expected = LAYOUTS[layout]
    if not to.is_dir():
        raise ReaderError(f"there is no folder {to}. Name the folder in which {expected.program} lies.")
    if not (to / expected.sign).is_dir():
        raise ReaderError(
            f"{to} is no folder of {expected.program}: it has no {expected.sign}. Name the folder in which "
            f"{expected.program} lies, or make that folder first."
        )
    return to


def folder_for(inspection: Inspection, layout: str, root: Path) -> Path:
    """Return the folder in which a file of this kind belongs.

    Raises:
        ReaderError: the kind is not known, it is empty, or the program has no place for it.
    """
    expected = LAYOUTS[layout]
    kind = _ADAPTER if inspection.adapter else inspection.kind
    if kind is None:
        raise ReaderError(
            f"{inspection.path} was not installed: the names of its tensors do not tell what it is (aigc inspect), so "
            "nobody knows in which folder it belongs. Copy it where you want it yourself."
        )
    if not inspection.parameters:
        raise ReaderError(
            f"{inspection.path} was not installed: its {inspection.tensors} tensors hold no numbers. {EMPTY_MATRICES}"
        )
    what = f"{kind} for {inspection.family}" if inspection.family else kind
    if layout != OUR_OWN and (
        kind not in expected.folders or inspection.path.is_dir() or _is_language_model(kind, inspection)
    ):
        form = "folder" if inspection.path.is_dir() else "file"
        own = "Without --layout it goes into the workbook's own store." if kind in LAYOUTS[OUR_OWN].folders else ""
        raise ReaderError(
            f"{inspection.path} was not installed: {expected.program} has no place for a {form} of this kind ({what}). "
            f"{own}".rstrip()
        )
    if kind not in expected.folders:
        raise ReaderError(f"{inspection.path} was not installed: the workbook's store has no place for it ({what}).")
    family = _drawing(inspection)
    if layout != OUR_OWN and not _reads_family(expected, kind, family):
        others = [name for name, other in LAYOUTS.items() if _may_take(other, name, kind, family)]
        raise ReaderError(
            f"{inspection.path} was not installed: {expected.program} does not draw with {family}. "
            f"{' and '.join(LAYOUTS[name].program for name in others)} can: the layout {others[0]}, with that "
            "program's folder."
        )
    return root / expected.folders[kind]


def refuse_hypernetwork(inspection: Inspection) -> None:
    """Refuse what there is only as a pickle, for safetensors has no place for its keys.

    Raises:
        ReaderError: it is a hypernetwork.
    """
    if inspection.kind == HYPERNETWORK:
        raise ReaderError(
            f"{inspection.path} was not installed: it is a hypernetwork, and there are no safetensors of those. A1111 "
            "unpickles it from models/hypernetworks. Copy it there yourself if you trust its author."
        )


def _is_language_model(kind: str, inspection: Inspection) -> bool:
    """Say whether this is for no model that draws, or nothing says that it is."""
    if kind == _CHECKPOINT:
        return not draws(inspection.family)
    if not inspection.adapter:
        return kind == _ADAPTER  # GGUF's are llama.cpp's.
    # A name that only the metadata know may be that of a new model that draws.
    pictures = inspection.family == "CLIP" or draws(inspection.family)  # A text encoder is a part of what draws.
    return not pictures and set(inspection.adapter.components) == {""}


def _drawing(inspection: Inspection) -> str | None:
    """Return the family of what a file is for, or what draws in it if no more is known."""
    components = inspection.adapter.components if inspection.adapter else ()
    return inspection.family or (_UNKNOWN_TRANSFORMER if "transformer" in components else None)


def _reads_family(layout: Layout, kind: str, family: str | None) -> bool:
    if not layout.families or family is None or kind not in (_ADAPTER, _CHECKPOINT, _UNET, TRANSFORMER, _EMBEDDING):
        return True
    drawn = draws(family) or family == _UNKNOWN_TRANSFORMER
    return not drawn or any(may_be_same(family, one) for one in layout.families)


def _may_take(layout: Layout, name: str, kind: str, family: str | None) -> bool:
    return name != OUR_OWN and kind in layout.folders and _reads_family(layout, kind, family)


def remarks_on_place(inspection: Inspection, layout: str) -> list[str]:
    """Return what hinders the other program from using the file where it now lies."""
    expected = LAYOUTS[layout]
    extension = expected.extensions.get(str(inspection.kind))
    if extension:
        return [f"{expected.program} reads it with the extension {extension}, which has to be installed there."]
    if layout == OUR_OWN:
        return []
    if layout == "comfyui" and inspection.container == GGUF:
        return ["ComfyUI reads GGUF files with the extension ComfyUI-GGUF, which has to be installed there."]
    if not inspection.adapter or not inspection.key_format or KOHYA in inspection.key_format:
        return []
    named = f"this one has names as {inspection.key_format} writes them"
    family = _drawing(inspection)
    if family and not any(may_be_same(family, one) for one in _OF_THE_UNET):
        return []  # What these programs make of the transformers' names differs from release to release.
    if inspection.kind in _CONVERTED:
        return [
            f"{expected.program} reads LoRA files with kohya's names, and {named}. Convert it first: aigc convert SRC "
            "DST --to kohya"
        ]
    if layout == "comfyui":
        return []
    return [
        f"{expected.program} reads such files with kohya's names, and {named}, which aigc convert does not change for "
        f"{inspection.kind}. PEFT or diffusers load it."
    ]
