"""The exercises of chapter 02, installing weight files."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from aigc_helpers.notebook import Exercise, Mistake, Test, Text, gives

_CONTENT = b"the right bytes"
_HASH = hashlib.sha256(_CONTENT).hexdigest()


def _file(names: list[str], metadata: dict[str, str] | None = None) -> bytes:
    import numpy as np
    from safetensors.numpy import save

    return save({name: np.arange(3, dtype=np.float32) for name in names}, metadata)


def _reads(names: list[str], metadata: dict[str, str] | None = None, also: tuple[str, ...] = ()) -> Test:
    """Make a test: of a file with these tensors, the answer gives their names (and ``also``)."""
    return lambda answer: sorted(answer(_file(names, metadata))) == sorted([*names, *also])


def _tensors() -> dict[str, Any]:
    import numpy as np

    return {
        "layer.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "layer.bias": np.array([0.5, -1.0], dtype=np.float32),
    }


def _packs_what_the_library_reads(answer: Any) -> bool | Text:  # noqa: ANN401
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load

    expected = _tensors()
    try:
        found = load(bytes(answer(dict(expected))))
    except SafetensorError as error:
        return Text(
            f"The library refuses your file: {error}.",
            f"safetensors 库拒绝了你的文件：{error}。",
        )
    return sorted(found) == sorted(expected) and all(np.array_equal(found[name], expected[name]) for name in found)


def _header(answer: Any) -> dict[str, Any]:  # noqa: ANN401
    packed = bytes(answer(_tensors()))
    return json.loads(packed[8 : 8 + int.from_bytes(packed[:8], "little")])


def _has_no_length(answer: Any) -> bool:  # noqa: ANN401
    return bytes(answer(_tensors())).startswith(b"{")


def _has_the_length_backwards(answer: Any) -> bool:  # noqa: ANN401
    packed = bytes(answer(_tensors()))
    return packed[8 : 8 + int.from_bytes(packed[:8], "big")].endswith(b"}")


def _counts_from_the_start_of_the_file(answer: Any) -> bool:  # noqa: ANN401
    return min(entry["data_offsets"][0] for entry in _header(answer).values()) > 0


EXERCISES = [
    Exercise(
        "02-1",
        Text("How large is the file?", "文件有多大？"),
        tests=[
            gives((7_000_000_000, 16), 14_000.0, tolerance=1e-6),
            gives((4_000_000, 32), 16.0, tolerance=1e-9),
            gives((1_000_000, 4), 0.5, tolerance=1e-9),
        ],
        mistakes=[
            Mistake(
                "bits for bytes",
                gives((4_000_000, 32), 128.0, tolerance=1e-9),
                Text(
                    "You counted bits. A byte has 8 of them.",
                    "你数的是比特；一个字节有 8 个比特。",
                ),
            ),
            Mistake(
                "mebibytes",
                gives((4_000_000, 32), 16_000_000 / 2**20, tolerance=1e-6),
                Text(
                    "That is in MiB, 1,048,576 bytes each. Asked for is MB: a million bytes.",
                    "这是 MiB（每个 1,048,576 字节）；题目要的是 MB，即一百万字节。",
                ),
            ),
            Mistake(
                "whole bytes only",
                gives((1_000_000, 4), 0.0),
                Text(
                    "int4 takes half a byte: do not round down.",
                    "int4 只占半个字节，不要向下取整。",
                ),
            ),
        ],
        hints=[
            Text(
                "Bits per parameter, 8 bits to a byte, a million bytes to a MB.",
                "每个参数若干比特，8 比特一字节，一百万字节一 MB。",
            ),
            Text("parameters * bits / 8 / …", "填空：parameters * bits / 8 / …"),
        ],
    ),
    Exercise(
        "02-2",
        Text("Read the names of the tensors.", "读出张量的名字。"),
        tests=[
            _reads(["a", "b.weight"]),
            _reads(["a"], {"format": "pt"}),
            _reads([f"layers.{number}.weight" for number in range(40)], {"author": "x" * 300}),
        ],
        mistakes=[
            Mistake(
                "metadata counted",
                _reads(["a"], {"format": "pt"}, also=("__metadata__",)),
                Text("`__metadata__` is no tensor.", "`__metadata__` 不是张量。"),
            ),
            Mistake(
                "entries for names",
                lambda answer: isinstance(next(iter(answer(_file(["a"])))), dict),
                Text(
                    "Those are the entries; asked for are their names.",
                    "这是各个条目的内容；题目要的是名字。",
                ),
            ),
        ],
        hints=[
            Text(
                "Section 1 has both lines: the length, then the JSON.",
                "第 1 节里两行都有：先长度，后 JSON。",
            ),
            Text(
                'length, = struct.unpack("<Q", raw[:8])',
                '先取长度：length, = struct.unpack("<Q", raw[:8])',
            ),
            Text(
                "json.loads(raw[8 : 8 + length]) is a dictionary; one of its keys is no tensor.",
                "json.loads(raw[8 : 8 + length]) 得到一个字典；其中有一个键不是张量。",
            ),
        ],
    ),
    Exercise(
        "02-3",
        Text("Is this the file that was promised?", "这是说好的那个文件吗？"),
        tests=[
            gives((_CONTENT, len(_CONTENT), _HASH), True),
            gives((b"the wrong bytes", len(_CONTENT), _HASH), False),
            gives((_CONTENT[:-1], len(_CONTENT), _HASH), False),
            gives((_CONTENT, len(_CONTENT), _HASH.upper()), True),
        ],
        mistakes=[
            Mistake(
                "size alone",
                gives((b"the wrong bytes", len(_CONTENT), _HASH), True),
                Text(
                    "A damaged file may have the right size. Compute its sha256.",
                    "损坏的文件大小也可能对得上。要算 sha256。",
                ),
            ),
            Mistake(
                "small letters only",
                gives((_CONTENT, len(_CONTENT), _HASH.upper()), False),
                Text(
                    "Some sites print the hash in capitals; it is the same number.",
                    "有的网站用大写字母写哈希；那是同一个数。",
                ),
            ),
        ],
        hints=[
            Text(
                "hashlib.sha256(content).hexdigest() is the hash in small letters.",
                "hashlib.sha256(content).hexdigest() 得到小写的哈希。",
            ),
            Text("Compare it with promised.lower().", "拿它和 promised.lower() 比较。"),
        ],
    ),
    Exercise(
        "02-4",
        Text("Write a safetensors file yourself.", "自己写一个 safetensors 文件。"),
        tests=[_packs_what_the_library_reads],
        mistakes=[
            Mistake(
                "no length",
                _has_no_length,
                Text(
                    "The eight bytes with the header's length are missing.",
                    "开头缺了表示文件头长度的八个字节。",
                ),
            ),
            Mistake(
                "big-endian",
                _has_the_length_backwards,
                Text('The length is stored little-endian: "<Q".', '长度按小端序存放："<Q"。'),
            ),
            Mistake(
                "offsets from the file's start",
                _counts_from_the_start_of_the_file,
                Text(
                    "data_offsets count from the end of the header, so the first tensor begins at 0.",
                    "data_offsets 从文件头之后算起，所以第一个张量从 0 开始。",
                ),
            ),
        ],
        hints=[
            Text(
                "Go through the tensors once: note each one's offsets, and append its tobytes() to the data.",
                "把张量走一遍：记下各自的偏移量，同时把 tobytes() 接到数据后面。",
            ),
            Text(
                'An entry: {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}',
                '一个条目：{"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}',
            ),
            Text(
                'head = json.dumps(header).encode(); then struct.pack("<Q", len(head)) + head + data',
                '先 head = json.dumps(header).encode()，再 struct.pack("<Q", len(head)) + head + data',
            ),
        ],
    ),
]

_PACK = """header, data = {{}}, b""
for name, tensor in tensors.items():
    begin = len(data) + {start}
    data += tensor.tobytes()
    offsets = [begin, len(data) + {start}]
    header[name] = {{"dtype": "F32", "shape": list(tensor.shape), "data_offsets": offsets}}
head = json.dumps(header).encode()
return {length} + head + data"""

WRONG_ANSWERS = {
    "02-1": [
        ("return parameters * bits / 1e6", "bits for bytes"),
        ("return parameters * bits / 8 / 2**20", "mebibytes"),
        ("return parameters * (bits // 8) / 1e6", "whole bytes only"),
    ],
    "02-2": [
        (
            "return list(json.loads(raw[8 : 8 + struct.unpack('<Q', raw[:8])[0]]))",
            "metadata counted",
        ),
        (
            "header = json.loads(raw[8 : 8 + struct.unpack('<Q', raw[:8])[0]])\n"
            "header.pop('__metadata__', None)\n"
            "return list(header.values())",
            "entries for names",
        ),
    ],
    "02-3": [
        ("return len(content) == size", "size alone"),
        (
            "import hashlib\nreturn hashlib.sha256(content).hexdigest() == promised",
            "small letters only",
        ),
    ],
    "02-4": [
        (_PACK.format(start=0, length='b""'), "no length"),
        (_PACK.format(start=0, length='struct.pack(">Q", len(head))'), "big-endian"),
        (
            _PACK.format(start=100, length='struct.pack("<Q", len(head))'),
            "offsets from the file's start",
        ),
    ],
}
