"""The page of the library's public names, ``docs/api.md``: what each room's ``.pyi`` hands out, and its docstring.

Everything is read from the sources, and nothing imported: so the page is the same on every machine.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from aigc_helpers.errors import ReaderError
from aigc_helpers.files import write_text
from aigc_helpers.lazy import handed_out
from aigc_helpers.paths import in_checkout

PAGE = "docs/api.md"
PACKAGE = "aigc_helpers"
_HEAD = """# The library's public names

Each room hands its names out: `from aigc_helpers.lora import merge`. Those to begin with stand in `aigc_helpers` itself.
This page is made of the docstrings by `aigc build api`: change those, and run it again.
"""  # noqa: E501 - a line of the page
_SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises|Example|Examples|Source|Sources):")
_COMMENT = re.compile(r"\s+# (noqa|type:).*$", re.MULTILINE)
_LONGEST_VALUE = 100  # Characters of a constant that are shown.

Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


def write_api_page(path: Path | None = None) -> bool:
    """Write the page to ``path``, ``docs/api.md`` without; returns whether it is another one now.

    Raises:
        ReaderError: there is no checkout, or a ``.pyi`` names what its module does not define.

    Example:
        >>> from pathlib import Path
        >>> write_api_page(Path("api.md")), write_api_page(Path("api.md"))
        (True, False)
    """
    path, text = path or in_checkout() / PAGE, api_page()
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    write_text(path, text)
    return True


def api_page() -> str:
    """Return the page in Markdown: room by room each name with its signature and its docstring.

    Raises:
        ReaderError: there is no checkout, or a ``.pyi`` names what its module does not define.

    Example:
        >>> page = api_page()
        >>> page.startswith("# The library's public names"), "### `merge`" in page
        (True, True)
    """
    stubs = sorted(in_checkout(PACKAGE).glob("*/__init__.pyi"))
    rooms = [PACKAGE, *(f"{PACKAGE}.{stub.parent.name}" for stub in stubs)]
    contents = "".join(f"- [`{room}`](#{room.replace('.', '')})\n" for room in rooms)
    return "\n".join([_HEAD, contents, *(_room(room) for room in rooms)])


def _room(room: str) -> str:
    package = _path(room)
    docstring = ast.get_docstring(_parsed(package)) or ""
    names = handed_out(package.with_suffix(".pyi"))
    entries = [_entry(name, _path(module)) for name, module in sorted(names.items(), key=lambda item: item[0].lower())]
    return "\n".join([f"## {room}\n", f"{docstring}\n", *entries])


def _path(module: str) -> Path:
    path = in_checkout(PACKAGE).parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _entry(name: str, path: Path) -> str:
    definition = _definition(name, path)
    source = path.read_text(encoding="utf-8")
    parts = [f"### `{name}`\n", _fenced(_signature(definition, source))]
    if isinstance(definition, (ast.FunctionDef, ast.ClassDef)):
        parts.append(as_markdown(ast.get_docstring(definition) or ""))
    if isinstance(definition, ast.ClassDef):
        parts += [f"{_fenced(_signature(method, source))}\n{_first(method)}\n" for method in _methods(definition)]
    return "\n".join(parts)


def _definition(name: str, path: Path) -> Definition:
    # Of several, such as overloads, the last one has the docstring.
    found = next((each for each in reversed(_parsed(path).body) if name in _defined(each)), None)
    if not isinstance(found, Definition):
        raise ReaderError(f"{path.name} does not define {name}, which the .pyi of its room names.")
    return found


def _defined(statement: ast.stmt) -> list[str]:
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return [statement.name]
    if not isinstance(statement, (ast.Assign, ast.AnnAssign)):
        return []
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]


def _signature(definition: Definition, source: str) -> str:
    """Return a definition as its source writes it: a header without its body, a constant if it is short."""
    lines = source.splitlines()
    if isinstance(definition, (ast.FunctionDef, ast.ClassDef)):
        begin = min(each.lineno for each in (definition, *definition.decorator_list))
        header = "\n".join(lines[begin - 1 : definition.body[0].lineno - 1])
        return textwrap.dedent(_COMMENT.sub("", header)).rstrip().removesuffix(":")
    written = _COMMENT.sub("", ast.get_source_segment(source, definition) or "")
    return written if len(written) <= _LONGEST_VALUE else f"{written.split('=')[0].rstrip()} = ..."


def _methods(definition: ast.ClassDef) -> Iterator[ast.FunctionDef]:
    """Yield what a user of the class calls: how it is made, and its public methods and properties."""
    for statement in definition.body:
        if isinstance(statement, ast.FunctionDef) and ast.get_docstring(statement):
            name = statement.name
            is_setter = any(
                isinstance(each, ast.Attribute) and each.attr == "setter" for each in statement.decorator_list
            )
            if (name == "__init__" or not name.startswith("_")) and not is_setter:
                yield statement


def _first(method: ast.FunctionDef) -> str:
    """Return a method's docstring; of ``__init__``'s all, for it says what to hand over, of others the first part."""
    docstring = ast.get_docstring(method) or ""
    return as_markdown(docstring if method.name == "__init__" else docstring.split("\n\n")[0]).rstrip()


def as_markdown(docstring: str) -> str:
    """Return a docstring in Google's form as Markdown: sections get bold headings, examples are code.

    Example:
        >>> print(as_markdown("Return one.\\n\\nArgs:\\n    name: of it."))
        Return one.
        <BLANKLINE>
        **Args**
        <BLANKLINE>
        - `name`: of it.
        <BLANKLINE>
    """
    written = []
    for block in re.split(r"\n\s*\n(?=\S)", docstring):  # What is indented belongs to the section above.
        heading, _, body = block.partition("\n")
        section = _SECTION.fullmatch(heading)
        written.append(_section(section[1], textwrap.dedent(body)) if section else block)
    return "\n\n".join(each.rstrip() for each in written) + "\n"


def _section(name: str, body: str) -> str:
    if name.startswith("Example"):
        return f"**{name}**\n\n{_fenced(body.rstrip(), 'pycon')}".rstrip()
    if name in ("Returns", "Yields", "Source", "Sources"):
        return f"**{name}**\n\n{body.rstrip()}\n"
    entries = re.sub(r"^(\w[\w.*, ]*): ", r"- `\1`: ", body, flags=re.MULTILINE)
    return f"**{name}**\n\n{entries.rstrip()}\n"


def _fenced(code: str, language: str = "python") -> str:
    return f"```{language}\n{code}\n```\n"
