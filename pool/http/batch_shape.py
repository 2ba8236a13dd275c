"""A batch as the API tells it."""

from __future__ import annotations

from typing import Any

from pool.batches.ports import Progress
from pool.store.jobs import JobRow

_MOMENTS = (
    "in_progress_at",
    "expires_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)


def batch_shape(
    row: JobRow, progress: Progress | None, refund: int, corrections: int
) -> dict[str, Any]:
    """``row`` of the table ``job`` as OpenAI's batch, with what we add under ``inferpool``.

    ``refund``: units given back so far; ``corrections``: delivered rows found wrong.
    """
    shape: dict[str, Any] = {
        "id": row.batch,
        "object": "batch",
        "endpoint": row.endpoint,
        "model": row.model_name,
        "errors": None,
        "input_file_id": row.input_file,
        "completion_window": row.completion_window,
        "status": row.state,
        "output_file_id": row.output_file,
        "error_file_id": row.error_file,
        "created_at": int(row.created),
        "request_counts": request_counts(row, progress),
        "metadata": row.metadata,
    }
    for moment in _MOMENTS:
        at = getattr(row, moment)
        shape[moment] = None if at is None else int(at)
    if row.errors:
        shape["errors"] = {"object": "list", "data": row.errors}
    if row.state in ("completed", "expired", "cancelled"):
        shape["usage"] = {
            "input_tokens": row.tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": row.tokens,
        }
    shape["inferpool"] = {
        "rows": row.rows,
        "rows_accepted": _done(row, progress, "accepted_rows"),
        "rows_cleared": _done(row, progress, "cleared_rows"),
        "work": row.work,
        "rate": progress.rate if progress else None,
        "eta": progress.eta if progress else None,
        "price": row.pay_reserved + row.check_reserved + row.fee_reserved,
        "refund": refund,
        "corrections": corrections,
        "assurance_ppm": row.assurance_ppm,
    }
    return shape


def request_counts(row: JobRow, progress: Progress | None) -> dict[str, int]:
    """Requests by what became of them; while work goes on, in proportion to cleared rows."""
    if row.state in ("completed", "expired", "cancelled"):
        return {
            "total": row.lines,
            "completed": row.lines_completed,
            "failed": row.lines_failed,
        }
    served = row.lines - row.lines_refused
    cleared = _done(row, progress, "cleared_rows")
    return {
        "total": row.lines,
        "completed": served * cleared // row.rows if row.rows else 0,
        "failed": row.lines_refused,
    }


def _done(row: JobRow, progress: Progress | None, which: str) -> int:
    if progress is not None:
        return int(getattr(progress, which))
    return int(row.rows) if row.closed == "completed" else 0
