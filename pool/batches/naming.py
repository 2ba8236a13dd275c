"""Names: ids that customers see, and where a job's objects lie."""

from __future__ import annotations

import re
import secrets

_WINDOW = re.compile(r"([1-9][0-9]{0,5})(m|h|d)")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400}


def new_file_id() -> str:
    """A fresh id of a file."""
    return f"file-{secrets.token_hex(16)}"


def new_batch_id() -> str:
    """A fresh id of a batch."""
    return f"batch_{secrets.token_hex(16)}"


def new_request_id() -> str:
    """A fresh id of an HTTP request."""
    return f"req_{secrets.token_hex(16)}"


def file_object(file: str) -> str:
    """The object of an uploaded file."""
    return f"files/{file}"


def job_place(job: int) -> str:
    """What the names of a batch's blocks begin with."""
    return f"jobs/{job}/blocks/"


def new_direct_place() -> str:
    """The same of a direct request, whose blocks are stored before the job has a number."""
    return f"direct/{secrets.token_hex(16)}-"


def block_object(place: str, block: int) -> str:
    """The object of one block of the job at ``place``."""
    return f"{place}{block}"


def lines_object(job: int) -> str:
    """The object that holds what intake found on every line."""
    return f"jobs/{job}/lines"


def output_object(job: int) -> str:
    """The object of a batch's output file."""
    return f"jobs/{job}/output"


def errors_object(job: int) -> str:
    """The object of a batch's error file."""
    return f"jobs/{job}/errors"


def window_seconds(window: str) -> int | None:
    """Seconds of a completion window such as ``24h``, ``90m`` or ``7d``; None if it is not one."""
    found = _WINDOW.fullmatch(window)
    return int(found[1]) * _SECONDS[found[2]] if found else None
