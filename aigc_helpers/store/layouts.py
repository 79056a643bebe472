"""Where each kind of weight file belongs: in our own store, in AUTOMATIC1111's web UI, or in ComfyUI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aigc_helpers.errors import ReaderError, UnknownNameError, WrongUsageError
from aigc_helpers.inspection import KOHYA, MINIATURE, SD1, SD2, SDXL, TRANSFORMER, Inspection
from aigc_helpers.store.location import store_folder

_ADAPTER, _CHECKPOINT, _EMBEDDING, _TEXT_ENCODER, _UNET, _VAE = (
    "LoRA",
    "full checkpoint",
    "textual inversion",
    "text encoder",
    "UNet",
    "VAE",
)


@dataclass(frozen=True)
class Layout:
    """How a program lays out its folders.

    Attributes:
        program: its name.
        folders: per kind of file, the folder under the program's own.
        sign: a folder that every copy of the program has.
    """

    program: str
    folders: dict[str, str]
    sign: str


OUR_OWN = "aigc"
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
        },
        "",
    ),
    "a1111": Layout(
        "AUTOMATIC1111's web UI",
        {
            _CHECKPOINT: "models/Stable-diffusion",
            _ADAPTER: "models/Lora",
            _VAE: "models/VAE",
            _EMBEDDING: "embeddings",
        },
        "models/Stable-diffusion",
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
        },
        "models/checkpoints",
    ),
}
_DRAWN_BY_OTHER_PROGRAMS = {SD1, SD2, SDXL, MINIATURE}


def root_of(layout: str, to: Path | None) -> Path:
    """Return the folder of the program whose ``layout`` is asked for.

    Args:
        layout: ``"aigc"``, ``"a1111"`` or ``"comfyui"``.
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
            "the layouts a1111 and comfyui need to be told the folder in which that program lies (to), and that folder "
            "needs one of these layouts. (AIGC_HOME moves our own store.)"
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
        ReaderError: the kind is not known, or the program has no place for it.
    """
    expected = LAYOUTS[layout]
    kind = _ADAPTER if inspection.adapter else inspection.kind
    if kind is None:
        raise ReaderError(
            f"{inspection.path} was not installed: the names of its tensors do not tell what it is (aigc inspect), so "
            "nobody knows in which folder it belongs. Copy it where you want it yourself."
        )
    what = f"{kind} for {inspection.family}" if inspection.family else kind
    language_model = layout != "aigc" and kind == _CHECKPOINT and inspection.family not in _DRAWN_BY_OTHER_PROGRAMS
    if kind not in expected.folders or language_model or (layout != "aigc" and inspection.path.is_dir()):
        form = "folder" if inspection.path.is_dir() else "file"
        raise ReaderError(
            f"{inspection.path} was not installed: {expected.program} has no place for a {form} of this kind ({what}). "
            "Without --layout it goes into the workbook's own store."
        )
    return root / expected.folders[kind]


def remarks_on_place(inspection: Inspection, layout: str) -> list[str]:
    """Return what hinders the other program from using the file where it now lies."""
    if layout == "aigc" or not inspection.adapter or inspection.key_format == KOHYA:
        return []
    return [
        f"{LAYOUTS[layout].program} reads LoRA files with kohya's names, and this one has names as "
        f"{inspection.key_format} writes them. Convert it first: aigc convert SRC DST --to kohya"
    ]
