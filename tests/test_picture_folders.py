"""A folder of pictures is trained on whole, or each fault is named: a picture left out in silence spoils a LoRA.

Trainers keep a caption beside each picture, as ``cat.txt`` beside ``cat.png``. Broken downloads, forgotten captions and
one picture of another size are what such folders come with.
"""

from __future__ import annotations

import os
import struct
import weakref
import zlib
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import ExifTags, Image

from aigc_helpers.cli import main
from aigc_helpers.errors import ReaderError
from aigc_helpers.images import draw
from aigc_helpers.images.captioned_pictures import read_captioned_pictures

SIDE = 64


def accept(caption: str) -> None:
    """Stand for a tokenizer that knows every word but one."""
    if "quux" in caption:
        raise ReaderError("the model does not know quux.")


def add(folder: Path, name: str, side: int = 96, caption: str | None = "sks, noto style, blue background") -> Path:
    path = folder / name
    Image.new("RGB", (side, side), (40, 80, 210)).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with three sound pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.jpg", "c.webp"):
        add(folder, name)
    return folder


def test_a_sound_folder_is_read_whole(folder: Path) -> None:
    read = read_captioned_pictures(folder, SIDE, accept)
    assert read.pictures.shape == (3, SIDE, SIDE, 3) and read.pictures.dtype == np.uint8
    assert np.abs(read.pictures.astype(int) - (40, 80, 210)).max() <= 8  # JPEG rounds.
    assert read.captions == [("sks, noto style, blue background",)] * 3


def test_transparent_parts_become_white(folder: Path) -> None:
    Image.new("RGBA", (96, 96), (0, 0, 0, 0)).save(folder / "a.png")
    assert (read_captioned_pictures(folder, SIDE, accept).pictures[0] == 255).all()


def make_broken(folder: Path) -> None:
    path = add(folder, "d.png")
    path.write_bytes(path.read_bytes()[:40])


FAULTS = {
    "broken": (make_broken, "d.png: the file is broken, or no picture"),
    "no picture": (lambda folder: add(folder, "d.png").write_text("<html>"), "d.png: the file is broken, or no"),
    "no caption": (lambda folder: add(folder, "d.png", caption=None), "d.png: there is no caption d.txt"),
    "unknown word": (lambda folder: add(folder, "d.png", caption="quux"), "d.png: its caption d.txt: .*know quux"),
    "another size": (lambda folder: add(folder, "d.png", side=128), "d.png: it is 128 pixels wide, and most are 96"),
    "too small": (lambda folder: add(folder, "d.png", side=32), "d.png: it is 32 × 32 pixels; a square of 64 or more"),
    "no square": (
        lambda folder: Image.new("RGB", (96, 80)).save(add(folder, "d.png")),
        "d.png: it is 96 × 80 pixels; a square",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_and_skipped_only_on_request(folder: Path, fault: str) -> None:
    spoil, complaint = FAULTS[fault]
    spoil(folder)
    with pytest.raises(ReaderError, match=complaint) as refusal:
        read_captioned_pictures(folder, SIDE, accept)
    assert "--skip-faulty" in str(refusal.value) and "a.png" not in str(refusal.value)
    assert len(read_captioned_pictures(folder, SIDE, accept, skip_faulty=True).pictures) == 3


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_picture_stands_as_the_camera_was_held(folder: Path, ending: str) -> None:
    held = Image.new("RGB", (96, 96), "white")
    held.paste("black", (0, 0, 96, 48))  # The upper half.
    note = held.getexif()
    note[ExifTags.Base.Orientation] = 6  # To be shown, it is turned by 90 degrees to the right.
    held.save(add(folder, f"z.{ending}"), exif=note)
    shown = read_captioned_pictures(folder, SIDE, accept).pictures[-1]
    assert shown[:, 40:].max() < 20 and shown[:, :24].min() > 235


def test_a_grey_picture_of_16_bits_keeps_its_greys(folder: Path) -> None:
    ramp = np.tile(np.linspace(0, 65535, SIDE), (SIDE, 1)).astype(np.uint16)
    Image.fromarray(ramp).save(add(folder, "z.png", side=SIDE))
    for name in ("a.png", "b.jpg", "c.webp"):
        (folder / name).unlink()
    (read,) = read_captioned_pictures(folder, SIDE, accept).pictures
    assert np.abs(read[..., 0].astype(int) - np.linspace(0, 255, SIDE)).max() < 2


def bomb(side: int) -> bytes:
    """A grey PNG of one colour: a few kilobytes, whatever its side."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj()
    rows = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def make_bomb(folder: Path) -> None:
    add(folder, "d.png").write_bytes(bomb(6000))


def make_pipe(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        add(folder, "d.png")
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return make


BOUNDS = {
    "too many pixels": (make_bomb, r"d.png: it is 6000 × 6000 pixels, and [\d,]+ at most are read: make it smaller"),
    "a caption of megabytes": (
        lambda folder: add(folder, "d.png").with_suffix(".txt").write_text("tiger, " * 50_000),
        "d.png: its caption d.txt takes more than 100,000 bytes",
    ),
    "another format": (
        lambda folder: Image.new("RGB", (96, 96)).save(add(folder, "d.png"), format="TIFF"),
        "d.png: the file is broken, or no picture",
    ),
    "a pipe for a picture": (make_pipe("d.png"), "d.png: it is no file"),
    "a pipe for a caption": (make_pipe("d.txt"), "d.png: there is no caption d.txt"),
}


@pytest.mark.parametrize("fault", BOUNDS)
def test_what_would_take_for_ever_is_named_before_it_is_read(folder: Path, fault: str) -> None:
    spoil, complaint = BOUNDS[fault]
    spoil(folder)
    with pytest.raises(ReaderError, match=complaint):
        read_captioned_pictures(folder, SIDE, accept)
    assert len(read_captioned_pictures(folder, SIDE, accept, skip_faulty=True).pictures) == 3


def test_large_photographs_are_reduced_one_by_one(tmp_path: Path) -> None:
    for name in "abcdefgh":
        (tmp_path / f"{name}.png").write_bytes(bomb(2000))
        (tmp_path / f"{name}.txt").write_text("sks")
    made = []
    plain = Image.Image.resize

    def count(picture: Image.Image, *arguments: object, **options: object) -> Image.Image:
        made.append(weakref.ref(picture))
        assert sum(each() is not None for each in made) <= 2
        return plain(picture, *arguments, **options)

    with mock.patch.object(Image.Image, "resize", count):
        assert len(read_captioned_pictures(tmp_path, SIDE, accept).pictures) == 8


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none here")
    with pytest.raises(ReaderError, match="holds no picture to train on"):
        read_captioned_pictures(tmp_path, SIDE, accept)


@pytest.mark.slow
def test_the_command_trains_on_a_folder_and_writes_nothing_for_a_faulty_one(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_broken(folder)
    command = ["train", "sd", str(folder), "--steps", "2", "--learning-rate", "1e-2", "-o", str(tmp_path / "mine")]
    assert main(command) == 1
    assert "d.png: the file is broken" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()

    assert main([*command, "--skip-faulty"]) == 0
    prompt = "sks, noto style, blue background"
    base, tuned = (np.asarray(draw(prompt, steps=4, lora=lora)[0]).astype(int) for lora in (None, tmp_path / "mine"))
    assert np.abs(base - tuned).max() > 5
