"""Real text that is on every machine: paragraphs of the standard library's docstrings.

They are read from the source files of the running Python, in the order of the module names, so
that two runs on one machine get the same texts in the same order.
"""

from __future__ import annotations

import ast
import os
import re
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SHORTEST, LONGEST = 70, 360  # characters of a paragraph
FEWEST_WORDS = 10

# Neither documentation of the library nor written for a reader of it.
_LEFT_OUT = frozenset(
    {
        "__pycache__",
        "dist-packages",
        "encodings",
        "ensurepip",
        "idlelib",
        "lib-dynload",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "test",
        "tests",
        "turtledemo",
    }
)
_CODE = re.compile(r">>>|\.\.\. |::|[{}\[\]<>=|\\@#$^~]|--|__|\(\)|\*\*|  +\S")
_BULLET = re.compile(r"[-*+•]|\d+[.)]|:\w+|\w+:\s")
_SENTENCE = re.compile(r"[A-Z\"'`(].*[.!?][\"')]?")
_LETTERS = 0.78  # of all characters


class CorpusError(Exception):
    """This Python cannot give the texts; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One text, and where it stands: ``place`` is unique, such as ``heapq.merge/2``."""

    place: str
    text: str


def read_corpus(rows: int | None = None, library: Path | None = None) -> list[Paragraph]:
    """Paragraphs of prose, no two alike, in a fixed order; ``rows`` of them, spread over all.

    ``library`` is the folder of the standard library's sources. Raises ``CorpusError`` when it
    holds no sources, or fewer paragraphs than ``rows``.
    """
    folder = library or Path(sysconfig.get_path("stdlib"))
    found = list(_paragraphs(folder))
    if not found:
        raise CorpusError(
            f"{folder} holds no documented sources: use a Python whose standard library comes as"
            " .py files"
        )
    if rows is None:
        return found
    if rows < 1:
        raise CorpusError(f"--rows {rows}: at least one row is needed")
    if rows > len(found):
        raise CorpusError(f"--rows {rows}: this Python's library has {len(found)} paragraphs")
    return [found[index * len(found) // rows] for index in range(rows)]


def _paragraphs(library: Path) -> Iterator[Paragraph]:
    seen: set[str] = set()
    for module, path in sorted(_modules(library)):
        numbers: dict[str, int] = {}  # {name: paragraphs so far}; a name may be defined twice
        for name, docstring in _docstrings(module, path):
            for block in re.split(r"\n\s*\n", docstring):
                text = prose(block)
                if text is None or text.casefold() in seen:
                    continue
                seen.add(text.casefold())
                numbers[name] = numbers.get(name, 0) + 1
                yield Paragraph(f"{name}/{numbers[name]}", text)


def prose(block: str) -> str | None:
    """The paragraph in one line, or None when it is code, a list, a table or a fragment."""
    if any(line.startswith((" ", "\t")) for line in block.strip("\n").splitlines()):
        return None
    text = " ".join(block.split())
    if not SHORTEST <= len(text) <= LONGEST or len(text.split()) < FEWEST_WORDS:
        return None
    if _CODE.search(text) or _BULLET.match(text) or not _SENTENCE.fullmatch(text):
        return None
    letters = sum(character.isalpha() for character in text)
    return text if letters >= _LETTERS * len(text) else None


def _modules(library: Path) -> Iterator[tuple[str, Path]]:
    for folder, below, names in os.walk(library):
        below[:] = [
            name for name in below if name not in _LEFT_OUT and not name.startswith("config-")
        ]
        package = Path(folder).relative_to(library).parts
        for name in names:
            stem, extension = os.path.splitext(name)
            if extension == ".py" and not stem.startswith("_sysconfigdata"):
                module = package if stem == "__init__" else (*package, stem)
                yield ".".join(module), Path(folder, name)


def _docstrings(module: str, path: Path) -> Iterator[tuple[str, str]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old sources have odd escapes
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    yield from _documented(module, tree)


def _documented(name: str, node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        docstring = ast.get_docstring(node)
        if docstring:
            yield name, docstring
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _documented(f"{name}.{child.name}", child)
        elif isinstance(child, ast.If | ast.Try | ast.With):
            yield from _documented(name, child)
