"""A pickle is a program for a small machine that can import and call anything. Here it is read, and nothing is run.

The opcodes are walked with ``pickletools.genops``; imports and calls become plain records on the machine's stack. So
the names that ``STACK_GLOBAL`` imports are known even where they come out of the memo.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aigc_helpers.errors import ReaderError, first_line

# Torch keeps the numbers outside its pickle, which takes some 200 bytes and 40 opcodes per tensor.
LARGEST_PICKLE = 20_000_000  # Bytes.
_BLOCK = 1 << 16  # Bytes read at once.
_MOST_OPCODES = 2_000_000
# As a dictionary's key a tuple is hashed, which no depth stops but the end of the stack. And tuples that hold the same
# tuple twice, and so on, take a few bytes each, and for ever to hash.
_DEEPEST_TUPLE, _LARGEST_TUPLE = 50, 200_000  # Tuples within one another; values, those of the inner ones counted in.
# Whoever loads the pickle hashes its keys. Large integers and tuples can be chosen so that all have the same hash, and
# then each new one is compared with all before; texts and small integers cannot.
_MOST_CHOSEN_KEYS, _MOST_HASHED = 1_000, 2_000_000  # Keys of those kinds; values in them.
_SMALL = 1 << 60
_LONGEST_INTEGER = 1_024  # Bits; the states of random generators take 128.


class UnsafePickleError(ReaderError):
    """A pickle that would import what no weight file needs, or hides what it would import."""


@dataclass(frozen=True)
class Global:
    """What the pickle would import."""

    module: str
    name: str

    def __str__(self) -> str:
        """Return the dotted name."""
        return f"{self.module}.{self.name}"


@dataclass
class Call:
    """What the pickle would call, with which arguments."""

    function: Any
    arguments: Any


@dataclass
class Persistent:
    """A reference to something outside the pickle; torch names storages so."""

    identifier: Any


@dataclass
class PickleProgram:
    """What a pickle would import, and the value it would build, with records in place of every import and call.

    ``fault`` says why reading stopped before the end; the imports up to there are known all the same.
    """

    imports: dict[Global, None] = field(default_factory=dict)  # In their order, each once.
    value: Any = None
    fault: str | None = None


class _NestedTuple(tuple):
    """A tuple that holds tuples."""

    def __init__(self, items: list[Any]) -> None:
        inner = [item for item in items if isinstance(item, tuple)]
        self.depth: int = 1 + max(getattr(item, "depth", 1) for item in inner)
        self.size: int = len(items) + sum(getattr(item, "size", len(item)) for item in inner)
        if self.depth > _DEEPEST_TUPLE or self.size > _LARGEST_TUPLE:
            raise ValueError("tuples within tuples without end")


def _tuple_of(items: list[Any]) -> tuple[Any, ...]:
    return _NestedTuple(items) if any(isinstance(item, tuple) for item in items) else tuple(items)


def _named(pairs: Iterable[Any]) -> dict[str, Any]:
    # Other keys are left out: hashing those of a hostile file may take for ever. A hypernetwork's are numbers.
    return {
        str(key): value
        for key, value in pairs
        if isinstance(key, str) or (type(key) is int and abs(key) < _SMALL and isinstance(value, tuple))
    }


def _listed(arguments: tuple[Any, ...]) -> Iterator[Any]:
    return (item for argument in arguments if isinstance(argument, (list, tuple)) for item in argument)


def _is_pair(item: Any) -> bool:  # noqa: ANN401 - whatever stands in the pickle.
    return isinstance(item, (list, tuple)) and len(item) == 2


class _Parameters(dict):
    """A ParameterDict, which gets what it holds with its state."""


_PARAMETER_DICT = Global("torch.nn.modules.container", "ParameterDict")
_MARK = object()
_OPAQUE = object()  # A value that says nothing about tensors.
# Called, they hash what they are given.
_HASHING = {"OrderedDict", "Counter", "defaultdict", "dict", "set", "frozenset"}
_CONSTANTS = {
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8")),
    **dict.fromkeys(("BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")),
}
_EXTENSIONS = {"EXT1", "EXT2", "EXT4"}
_MAKERS: dict[str, Callable[[], Any]] = {
    **{"NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_LIST": list},
    **{"EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": lambda: _OPAQUE},
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Readable(Protocol):
    """What a pickle is read from."""

    def read(self, size: int, /) -> bytes: ...  # noqa: D102

    def readline(self, limit: int, /) -> bytes: ...  # noqa: D102

    def tell(self) -> int: ...  # noqa: D102


def read_program(path: Path, stream: Readable) -> PickleProgram:
    """Walk one pickle from where ``stream`` stands to its end, which is where the stream stands afterwards.

    Args:
        path: the file's name, for messages.
        stream: holds the pickle.

    Raises:
        UnsafePickleError: the name of an import is computed while the pickle runs, or stands in Python's extension
            registry, so that nobody can say beforehand what it would import.
    """
    machine = _Machine(path)
    try:
        opcodes = pickletools.genops(_Limited(stream))  # type: ignore[arg-type]  # It asks no more of a file than this.
        for number, (opcode, argument, _) in enumerate(opcodes):
            if number >= _MOST_OPCODES:
                raise ValueError(f"more than {_MOST_OPCODES:,} opcodes")
            machine.step(opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, UnicodeError) as error:
        machine.program.fault = first_line(error)
    return machine.program


class _Limited:
    """A stream that gives no more than LARGEST_PICKLE bytes, whatever a pickle claims its strings take."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._left = LARGEST_PICKLE
        self.tell = stream.tell

    def read(self, size: int) -> bytes:
        if size > self._left:
            raise ValueError(f"more than {LARGEST_PICKLE:,} bytes")
        self._left -= size
        # A file gives its buffer the whole announced size before it looks how much is there.
        parts = []
        while size and (part := self._stream.read(min(size, _BLOCK))):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def readline(self) -> bytes:
        line = self._stream.readline(self._left)
        self._left -= len(line)
        return line


class _Machine:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._entries = self._chosen_keys = self._hashed = 0
        self.program = PickleProgram()

    def step(self, name: str, argument: Any) -> None:  # noqa: ANN401 - an opcode's argument has any type.
        if name in _CONSTANTS:
            if isinstance(argument, int) and argument.bit_length() > _LONGEST_INTEGER:
                raise ValueError(f"an integer of {argument.bit_length():,} bits, which no weight file has")
            self._stack.append(argument)
        elif name in _MAKERS:
            self._stack.append(_MAKERS[name]())
        elif name in _TUPLES:
            self._stack.append(_tuple_of(self._pop_many(_TUPLES[name])))
        elif name in _EXTENSIONS:
            raise UnsafePickleError(
                f"{self._path} is unsafe: it imports entry {argument} of Python's extension registry, whose name the "
                "file does not tell. Do not load it."
            )
        elif hasattr(self, f"_do_{name.lower()}"):
            getattr(self, f"_do_{name.lower()}")(argument)
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"opcode {name}, which no weight file has")

    def _pop_many(self, count: int) -> list[Any]:
        if count > len(self._stack):
            raise ValueError("the stack is empty")
        taken = self._stack[-count:]
        del self._stack[-count:]
        return taken

    def _pop_to_mark(self) -> list[Any]:
        taken = []
        while (value := self._stack.pop()) is not _MARK:
            taken.append(value)
        return taken[::-1]

    def _import(self, module: Any, name: Any) -> Global:  # noqa: ANN401 - checked here.
        if not isinstance(module, str) or not isinstance(name, str):
            raise UnsafePickleError(
                f"{self._path} is unsafe: the name of an import is computed while the pickle runs, so nobody can say "
                "what it is. Do not load it."
            )
        found = Global(module, name)
        self.program.imports[found] = None
        return found

    def _store(self, items: list[Any]) -> None:
        target = self._stack[-1]
        self._entries += len(items)
        for key in items[::2]:
            self._count_key(key)
        if isinstance(target, dict):
            target.update(_named(zip(items[::2], items[1::2], strict=True)))

    def _count_key(self, key: Any) -> None:  # noqa: ANN401 - whatever stands in the pickle.
        if key is None or isinstance(key, (str, bytes, float)) or (isinstance(key, int) and abs(key) < _SMALL):
            return
        self._chosen_keys += 1
        self._count_hashed(getattr(key, "size", len(key)) if isinstance(key, tuple) else 1)

    def _count_hashed(self, count: int) -> None:
        self._hashed += count
        if self._chosen_keys > _MOST_CHOSEN_KEYS or self._hashed > _MOST_HASHED:
            raise ValueError("keys without end, which take for ever to hash")

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)

    def _do_mark(self, _: None) -> None:
        self._stack.append(_MARK)

    def _do_stop(self, _: None) -> None:
        self.program.value = self._stack.pop()

    def _do_pop(self, _: None) -> None:
        self._stack.pop()

    def _do_pop_mark(self, _: None) -> None:
        self._pop_to_mark()

    def _do_dup(self, _: None) -> None:
        self._stack.append(self._stack[-1])

    def _do_list(self, _: None) -> None:
        self._stack.append(self._pop_to_mark())

    def _do_tuple(self, _: None) -> None:
        self._stack.append(_tuple_of(self._pop_to_mark()))

    def _do_dict(self, _: None) -> None:
        items = self._pop_to_mark()
        self._stack.append({})
        self._store(items)

    def _do_frozenset(self, _: None) -> None:
        for key in self._pop_to_mark():
            self._count_key(key)
        self._stack.append(_OPAQUE)

    def _do_append(self, _: None) -> None:
        self._extend(self._pop_many(1))

    def _do_appends(self, _: None) -> None:
        self._extend(self._pop_to_mark())

    def _do_additems(self, _: None) -> None:
        for key in self._pop_to_mark():
            self._count_key(key)

    def _do_setitem(self, _: None) -> None:
        self._store(self._pop_many(2))

    def _do_setitems(self, _: None) -> None:
        self._store(self._pop_to_mark())

    def _do_put(self, key: int) -> None:
        self._memo[int(key)] = self._stack[-1]

    _do_binput = _do_long_binput = _do_put

    def _do_memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _do_get(self, key: int) -> None:
        self._stack.append(self._memo[int(key)])

    _do_binget = _do_long_binget = _do_get

    def _do_global(self, names: str) -> None:
        module, _, name = names.partition(" ")
        self._stack.append(self._import(module, name))

    def _do_stack_global(self, _: None) -> None:
        self._stack.append(self._import(*self._pop_many(2)))

    def _do_inst(self, names: str) -> None:
        module, _, name = names.partition(" ")
        self._stack.append(Call(self._import(module, name), tuple(self._pop_to_mark())))

    def _do_obj(self, _: None) -> None:
        function, *arguments = self._pop_to_mark()
        self._stack.append(Call(function, tuple(arguments)))

    def _do_reduce(self, _: None) -> None:
        function, arguments = self._pop_many(2)
        if function == _PARAMETER_DICT:
            self._stack.append(_Parameters())
            return
        given = arguments if isinstance(arguments, tuple) else ()
        if isinstance(function, Global) and function.name in _HASHING:
            self._count_keys_given(given)
        ordered = function == Global("collections", "OrderedDict")
        # Python 2 gives the entries as a list of pairs; later Pythons store them one by one.
        self._stack.append(_named(filter(_is_pair, _listed(given[:1]))) if ordered else Call(function, arguments))

    _do_newobj = _do_reduce

    def _count_keys_given(self, arguments: tuple[Any, ...]) -> None:
        # A dictionary here holds only what is named by a text, and the real one has no more than all entries so far.
        self._count_hashed(self._entries * sum(isinstance(each, dict) for each in arguments))
        self._count_hashed(sum(len(each) for each in arguments if isinstance(each, (list, tuple))))
        for item in _listed(arguments):
            self._count_key(item[0] if isinstance(item, list) and item else item)

    def _do_newobj_ex(self, _: None) -> None:
        function, arguments, _ = self._pop_many(3)
        self._stack.append(Call(function, arguments))

    def _do_build(self, _: None) -> None:
        (state,) = self._pop_many(1)  # Of an object: an OrderedDict's _metadata, for one.
        parameters = state.get("_parameters") if isinstance(state, dict) else None
        if isinstance(self._stack[-1], _Parameters) and isinstance(parameters, dict):
            self._stack[-1].update(parameters)

    def _do_persid(self, identifier: str) -> None:
        self._stack.append(Persistent(identifier))

    def _do_binpersid(self, _: None) -> None:
        identifier = self._stack.pop()
        # torch before 1.6 names a module's class so, with its source beside it, and gives the class for it.
        is_class = isinstance(identifier, tuple) and len(identifier) > 1 and identifier[0] == "module"
        self._stack.append(identifier[1] if is_class else Persistent(identifier))
