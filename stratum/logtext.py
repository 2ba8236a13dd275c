"""What a log may hold: text of one line, without secrets, and failures without others' words."""

from __future__ import annotations

import re
import sqlite3
import traceback
from collections.abc import Mapping
from numbers import Number
from pathlib import PurePath
from typing import Any

HIDDEN = "***"
_LONGEST = 2_000  # characters of one text
_DEEPEST = 4  # lists in lists
_FRAMES = 12  # of one failure, the innermost
_CHAIN = 8  # failures told of one line

# Facts of these names are never written, whatever they are.
_SECRET_NAMES = frozenset(
    {
        "api_key",
        "authorization",
        "body",
        "content",
        "key",
        "password",
        "payload",
        "private_key",
        "secret",
        "token",
    }
)
# What is a secret wherever it stands. Every repeated part is bounded: hostile text costs no more
# than other text.
_SECRETS = re.compile(
    r"""
    ipp?_[A-Za-z0-9_-]{16,}                                   # a pool's tokens
    | (?<![A-Za-z])(?:hf_|sk-)[A-Za-z0-9_-]{16,}              # those of well-known services
    | (?i:(?<=authorization)["']?\s{0,4}[:=,]\s{0,4}b?["']?[^"',}\r\n]{1,512})
    | (?i:(?<=bearer\s)[\w.~+/=-]{6,})
    | (?i:(?<=basic\s)[\w.~+/=-]{12,})
    | (?i:(?<=[?&]key=|[?&]sig=)[^&\s"']{1,512})
    | (?i:(?<=[?&]token=)[^&\s"']{1,512})
    | (?i:(?<=[?&]secret=)[^&\s"']{1,512})
    | (?i:(?<=[?&]signature=)[^&\s"']{1,512})
    | -----BEGIN\ [A-Z ]{0,32}PRIVATE\ KEY-----[\s\S]{0,4096}
    | [\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){1,8}         # e-mail addresses
    """,
    re.VERBOSE,
)


def hidden(text: str) -> str:
    """``text`` with ``***`` where a secret of a known shape, or an e-mail address, stood."""
    return _SECRETS.sub(HIDDEN, text)


def escaped(text: str) -> str:
    """``text`` on one line: what a terminal would obey, or reorder, is written as an escape."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def plain(value: Any, depth: int = 0) -> Any:
    """``value`` as numbers, short text without secrets, and lists and dictionaries of them."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Number):  # numpy's, say
        return value.item() if hasattr(value, "item") else str(value)
    if isinstance(value, list | tuple | set | frozenset) and depth < _DEEPEST:
        return [plain(one, depth + 1) for one in value]
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return plain_facts({str(name): fact for name, fact in value.items()}, depth + 1)
    text = value if isinstance(value, str) else repr(value)
    cut = text[:_LONGEST]
    return hidden(cut) + ("…" if len(text) > len(cut) else "")


def plain_facts(facts: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """Each fact ``plain``; of those whose name says that they are secret, nothing."""
    return {
        hidden(name): HIDDEN if name.lower() in _SECRET_NAMES else plain(fact, depth)
        for name, fact in facts.items()
    }


def failure_text(error: BaseException, *, words: bool) -> str:
    """A failure and what caused it, in one line: types, and where they were raised.

    The words of an exception may quote what a customer sent: with ``words`` false only those of
    the system (a file that is missing, a full disk) are told.
    """
    told: list[str] = []
    todo, seen = [error], {id(error)}
    while todo and len(told) < _CHAIN:
        one = todo.pop()
        told.append(_one_failure(one, words=words))
        inner = list(one.exceptions) if isinstance(one, BaseExceptionGroup) else []
        cause = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
        for other in (cause, *reversed(inner)):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                todo.append(other)
    return "; from ".join(told)


def _one_failure(error: BaseException, *, words: bool) -> str:
    name = type(error).__name__
    if (words or isinstance(error, OSError | sqlite3.Error)) and str(error):
        name += f": {str(error)[: _LONGEST // 4]}"
    frames = [
        f"{'/'.join(PurePath(frame.f_code.co_filename).parts[-3:])}:{line} {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    where = " < ".join(reversed(frames[-_FRAMES:]))
    return f"{name} at {where}" if where else name
