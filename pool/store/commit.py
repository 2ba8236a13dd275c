"""Group commit: what the board decided becomes durable, all of a group or none of it.

The results go to the log and are synced; then one transaction writes everything and names them.
A group that fails halfway is never tried again: the process ends and recovers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import bindparam, insert, select, update

from pool.crashpoints import crash_point
from pool.store import schema
from pool.store.database import Database, set_meta, upsert
from pool.store.receipts import seal
from pool.store.resultlog import Buffer, Position, ResultLog
from pool.store.signing import Signer
from shares.blocks import Kind, Segment
from shares.board.effects import (
    AppealGranted,
    BlockCleared,
    CheckDrawn,
    CheckEnded,
    CreditEarned,
    ExcuseSettled,
    HeldForfeited,
    JobClosed,
    KindAccused,
    LeaseEnded,
    LeaseIssued,
    LeaseSuspected,
    NeighboursSuspected,
    PartAccepted,
    Record,
    RecountBegun,
    RecountEnded,
    RefereePaid,
    RowRefuted,
    ShareExcused,
    ShareJudged,
    TrialBegun,
    TrustChanged,
)

LOG_END = "log_end"  # key in meta: where the last committed record ends, "log:offset"

# What a share's verdict makes of the credits it earned; a forfeited share is a rejected one.
CREDIT_STATE = {"cleared": "cleared", "rejected": "rejected", "void": "rejected"}

_encode = msgspec.msgpack.encode
_Segments = list[tuple[int, int, int, int, str]]
_decode_segments = msgspec.msgpack.Decoder(_Segments).decode

_R = TypeVar("_R", bound=Record)


@dataclass(slots=True)
class Group:
    """What is to become durable together.

    ``records`` in the order in which the board gave them; ``payloads`` maps the handles of
    ``PartAccepted.payload`` to bytes: the values of all rows (a failed row's are zero), then the
    positions in the part of the failed rows as uint32, little-endian.
    """

    records: list[Record]
    payloads: Mapping[int, Buffer]


class Durable(Protocol):
    """What ``commit_group`` needs of a store."""

    @property
    def database(self) -> Database:
        """The database."""

    @property
    def log(self) -> ResultLog:
        """The result log, claimed."""

    @property
    def signer(self) -> Signer:
        """What signs the group's root."""


def commit_group(store: Durable, group: Group) -> None:
    """Make a group durable. Returns when all of it is; any exception must end the process."""
    sorted_records = _Sorted(group.records)
    positions = _write_payloads(store.log, sorted_records.take(PartAccepted), group.payloads)
    with store.database.write() as connection:
        crash_point("store.begun")
        _write_records(connection, sorted_records, positions, group.payloads)
        parts = sorted_records.take(PartAccepted)
        seal(connection, store.signer, parts, sorted_records.take(CreditEarned))
        if positions:
            end = store.log.end
            set_meta(connection, LOG_END, f"{end.log}:{end.offset}")
        crash_point("store.before_commit")
    crash_point("store.committed")


def pack_segments(segments: Iterable[Segment]) -> bytes:
    """Segments as stored in ``lease.segments``."""
    return _encode([(s.job, s.block, s.start, s.stop, s.kind.value) for s in segments])


def unpack_segments(data: bytes) -> tuple[Segment, ...]:
    """The segments of a stored lease."""
    return tuple(
        Segment(job, block, start, stop, Kind(kind))
        for job, block, start, stop, kind in _decode_segments(data)
    )


class _Sorted:
    """Records by type, each type in the order in which they came."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._by_type: dict[type[Record], list[Record]] = {}
        for record in records:
            self._by_type.setdefault(type(record), []).append(record)

    def take(self, kind: type[_R]) -> list[_R]:
        return self._by_type.get(kind, [])  # type: ignore[return-value]

    def unknown(self) -> set[str]:
        return {kind.__name__ for kind in self._by_type if kind not in _KNOWN}


def _write_payloads(
    log: ResultLog, parts: list[PartAccepted], payloads: Mapping[int, Buffer]
) -> list[Position]:
    if not parts:
        return []
    crash_point("log.before")
    positions = log.append([payloads[part.payload] for part in parts])
    crash_point("log.written")
    log.sync()
    crash_point("log.synced")
    return positions


def _write_records(
    connection: sa.Connection,
    records: _Sorted,
    positions: list[Position],
    payloads: Mapping[int, Buffer],
) -> None:
    """Insert before update, and every lease before what belongs to it.

    Within a group that is the order in which the board can have meant it: a share is judged
    after its last part, and what comes after a verdict is looked at by ``_late_credits``.
    """
    if unknown := records.unknown():
        raise TypeError(f"records that the store cannot write: {', '.join(sorted(unknown))}")
    parts = records.take(PartAccepted)
    _insert(connection, schema.lease, records.take(LeaseIssued), _lease_row)
    if parts:
        rows = [
            _part_row(part, position, len(payloads[part.payload]))
            for part, position in zip(parts, positions, strict=True)
        ]
        connection.execute(insert(schema.part), rows)
        _insert(connection, schema.won, [(p, w) for p in parts for w in p.won], _won_row)
    _credits(connection, records)
    _insert(connection, schema.check, records.take(CheckDrawn), _check_row)
    _insert(connection, schema.referee_run, records.take(RefereePaid), _referee_row)
    blocks = {r.block: r for r in records.take(NeighboursSuspected)}  # the last of each
    upsert(connection, schema.network_block, [_fields(r) for r in blocks.values()])
    upsert(connection, schema.refuted, [_fields(r) for r in records.take(RowRefuted)])
    excused = {r.lease: r for r in records.take(ShareExcused)}  # the last of each
    upsert(connection, schema.excuse, [_fields(r) for r in excused.values()])
    _update(connection, _EXCUSE_SETTLED, records.take(ExcuseSettled), _excuse_settled)
    guilty = [r for r in records.take(ExcuseSettled) if r.offence]
    _update(connection, _REFUTED_OFFENCE, guilty, lambda r: {"key": r.lease})
    for accused in records.take(KindAccused):
        _quarantine(connection, accused)
    _update(connection, _APPEAL_GRANTED, records.take(AppealGranted), _appeal_granted)
    _insert(connection, schema.forfeit, records.take(HeldForfeited), _forfeit_row)
    _update(connection, _LEASE_ENDED, records.take(LeaseEnded), _ended)
    _update(connection, _LEASE_ACCEPTED, {p.lease for p in parts}, lambda lease: {"key": lease})
    _update(connection, _SHARE_JUDGED, records.take(ShareJudged), _judged_share)
    _update(connection, _CREDITS_JUDGED, records.take(ShareJudged), _judged_credits)
    _update(connection, _CHECK_ENDED, records.take(CheckEnded), _check_ended)
    _update(connection, _LEASE_SUSPECTED, records.take(LeaseSuspected), _lease_key)
    _update(connection, _TRIAL, records.take(TrialBegun), _trial_begun)
    _update(connection, _RECOUNT, records.take(RecountBegun), _recount_begun)
    _update(connection, _RECOUNT, records.take(RecountEnded), _recount_ended)
    _update(connection, _BLOCK_CLEARED, records.take(BlockCleared), _block_key)
    _update(connection, _JOB_CLOSED, records.take(JobClosed), _job_closed)
    # A rig's row as it is at the end of the group.
    trust = {(t.account, t.rig): t for t in records.take(TrustChanged)}
    upsert(connection, schema.trust, [_trust_row(t) for t in trust.values()])


def _credits(connection: sa.Connection, records: _Sorted) -> None:
    earned = records.take(CreditEarned)
    if not earned:
        return
    at = {(part.lease, part.part): part.at for part in records.take(PartAccepted)}
    moments = [r.at for kind in _TIMED for r in records.take(kind)]
    latest = max(moments) if moments else _last_credit(connection)
    rows = []
    for credit in earned:
        row = _fields(credit)
        row["state"] = "pending"
        row["at"] = at.get((credit.lease, credit.part), latest)
        rows.append(row)
    connection.execute(insert(schema.credit), rows)
    accepted_now = {part.lease for part in records.take(PartAccepted)}
    late = {credit.lease for credit in earned} - accepted_now
    if late:
        _late_credits(connection, late)


def _last_credit(connection: sa.Connection) -> float:
    """When the last credit was earned: for one that comes with nothing that has a time."""
    credit = schema.credit.c
    return connection.scalar(select(credit.at).order_by(credit.id.desc()).limit(1)) or 0.0


def _late_credits(connection: sa.Connection, leases: set[int]) -> None:
    """Credits of a share that has its verdict already follow it at once."""
    found = connection.execute(
        sa.select(schema.lease.c.id, schema.lease.c.verdict, schema.lease.c.forfeit)
        .add_columns(schema.lease.c.judged)
        .where(schema.lease.c.id.in_(leases), schema.lease.c.verdict.in_(CREDIT_STATE))
    ).all()
    _update(
        connection,
        _CREDITS_JUDGED,
        found,
        lambda row: {
            "key": row.id,
            "new_state": "forfeited" if row.forfeit else CREDIT_STATE[row.verdict],
            "new_judged": row.judged,
        },
    )


# ── records to rows ───────────────────────────────────────────────────────────


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


def _lease_row(r: LeaseIssued) -> dict[str, Any]:
    row = _fields(r)
    row["id"] = row.pop("lease")
    row["segments"] = pack_segments(r.segments)
    return row | {"state": "open", "verdict": "open"}


def _part_row(r: PartAccepted, position: Position, size: int) -> dict[str, Any]:
    row = _fields(r)
    del row["payload"], row["won"]
    row["no"] = row.pop("part")
    row["check_rows"] = _encode(r.check_rows)
    row["referee_rows"] = _encode(r.referee_rows)
    row["works"] = _encode(r.works)
    row["over"] = _encode(r.over)
    row["least"] = _encode(r.least)
    return row | {"log": position.log, "offset": position.offset, "bytes": size}


def _won_row(item: tuple[PartAccepted, Any]) -> dict[str, Any]:
    part, won = item
    return _fields(won) | {"lease": part.lease, "part": part.part}


def _check_row(r: CheckDrawn) -> dict[str, Any]:
    row = _fields(r)
    row["id"] = row.pop("check")
    return row


def _referee_row(r: RefereePaid) -> dict[str, Any]:
    return _fields(r)


def _forfeit_row(r: HeldForfeited) -> dict[str, Any]:
    return _fields(r)


def _trust_row(r: TrustChanged) -> dict[str, Any]:
    return _fields(r) | {"proved": dict(r.proved)}


def _ended(r: LeaseEnded) -> dict[str, Any]:
    return {"key": r.lease, "new_state": r.state, "new_fault": r.fault, "new_ended": r.at}


def _judged_share(r: ShareJudged) -> dict[str, Any]:
    return {
        "key": r.lease,
        "new_verdict": r.state,
        "new_reason": r.reason,
        "new_forfeit": r.forfeit,
        "new_judged": r.at,
    }


def _judged_credits(r: ShareJudged) -> dict[str, Any]:
    state = "forfeited" if r.forfeit else CREDIT_STATE[r.state]
    return {"key": r.lease, "new_state": state, "new_judged": r.at}


def _check_ended(r: CheckEnded) -> dict[str, Any]:
    return {
        "key": r.check,
        "new_outcome": r.outcome,
        "new_checker": r.checker,
        "new_ended": r.at,
    }


def _lease_key(r: LeaseSuspected) -> dict[str, Any]:
    return {"key": r.lease}


def _recount_begun(r: RecountBegun) -> dict[str, Any]:
    return {"key": r.lease, "new_recount": r.row}


def _recount_ended(r: RecountEnded) -> dict[str, Any]:
    return {"key": r.lease, "new_recount": None}


def _trial_begun(r: TrialBegun) -> dict[str, Any]:
    return {"key": r.lease, "new_row": r.row, "new_kind": r.kind}


def _excuse_settled(r: ExcuseSettled) -> dict[str, Any]:
    return {"key": r.lease, "new_outcome": r.outcome, "new_decided": r.at}


def _quarantine(connection: sa.Connection, r: KindAccused) -> None:
    """As the operator's command does; what an operator wrote stays."""
    table = schema.quarantine
    known = connection.scalar(
        sa.select(table.c.kind).where(table.c.kind == r.kind, table.c.model == r.model)
    )
    if known is None:
        why = f"{r.accounts} accounts gave equal wrong rows"
        row = {"kind": r.kind, "model": r.model, "since": r.at, "why": why}
        connection.execute(insert(table), [row])


def _appeal_granted(r: AppealGranted) -> dict[str, Any]:
    return {"key": r.lease, "new_units": r.units, "new_decided": r.at}


def _block_key(r: BlockCleared) -> dict[str, Any]:
    return {"key": r.job, "block_no": r.block}


def _job_closed(r: JobClosed) -> dict[str, Any]:
    return {"key": r.job, "new_closed": r.state}


# ── statements ────────────────────────────────────────────────────────────────

_KNOWN = frozenset(
    {
        AppealGranted,
        BlockCleared,
        CheckDrawn,
        CheckEnded,
        CreditEarned,
        ExcuseSettled,
        HeldForfeited,
        JobClosed,
        KindAccused,
        LeaseEnded,
        LeaseIssued,
        LeaseSuspected,
        NeighboursSuspected,
        PartAccepted,
        RecountBegun,
        RecountEnded,
        RefereePaid,
        RowRefuted,
        ShareExcused,
        ShareJudged,
        TrialBegun,
        TrustChanged,
    }
)
_TIMED: tuple[type[Any], ...] = (PartAccepted, CheckEnded, ShareJudged, LeaseEnded, CheckDrawn)

_KEY: sa.BindParameter[int] = bindparam("key")
_LEASE_ENDED = (
    update(schema.lease)
    .where(schema.lease.c.id == _KEY)
    .values(
        state=bindparam("new_state"), fault=bindparam("new_fault"), ended=bindparam("new_ended")
    )
)
_LEASE_ACCEPTED = (
    update(schema.lease)
    .where(schema.lease.c.id == _KEY, schema.lease.c.verdict == "open")
    .values(verdict="accepted")
)
_SHARE_JUDGED = (
    update(schema.lease)
    .where(schema.lease.c.id == _KEY)
    .values(
        verdict=bindparam("new_verdict"),
        reason=bindparam("new_reason"),
        forfeit=bindparam("new_forfeit"),
        judged=bindparam("new_judged"),
    )
)
_CREDITS_JUDGED = (
    update(schema.credit)
    .where(schema.credit.c.lease == _KEY, schema.credit.c.state == "pending")
    .values(state=bindparam("new_state"), judged=bindparam("new_judged"))
)
_CHECK_ENDED = (
    update(schema.check)
    .where(schema.check.c.id == _KEY)
    .values(
        outcome=bindparam("new_outcome"),
        checker=bindparam("new_checker"),
        ended=bindparam("new_ended"),
    )
)
_LEASE_SUSPECTED = update(schema.lease).where(schema.lease.c.id == _KEY).values(suspect=True)
_RECOUNT = (
    update(schema.lease).where(schema.lease.c.id == _KEY).values(recount=bindparam("new_recount"))
)
_TRIAL = (
    update(schema.lease)
    .where(schema.lease.c.id == _KEY)
    .values(trial=bindparam("new_row"), trial_kind=bindparam("new_kind"))
)
_EXCUSE_SETTLED = (
    update(schema.excuse)
    .where(schema.excuse.c.lease == _KEY)
    .values(outcome=bindparam("new_outcome"), decided=bindparam("new_decided"))
)
_REFUTED_OFFENCE = update(schema.refuted).where(schema.refuted.c.lease == _KEY).values(offence=True)
_APPEAL_GRANTED = (
    update(schema.appeal)
    .where(schema.appeal.c.lease == _KEY, schema.appeal.c.outcome.is_(None))
    .values(outcome="overturned", units=bindparam("new_units"), decided=bindparam("new_decided"))
)
_BLOCK_CLEARED = (
    update(schema.block)
    .where(schema.block.c.job == _KEY, schema.block.c.no == bindparam("block_no"))
    .values(cleared=True)
)
_JOB_CLOSED = (
    update(schema.job).where(schema.job.c.id == _KEY).values(closed=bindparam("new_closed"))
)

_T = TypeVar("_T")


def _insert(
    connection: sa.Connection,
    table: sa.Table,
    records: list[_T],
    row: Callable[[_T], dict[str, Any]],
) -> None:
    if records:
        connection.execute(insert(table), [row(record) for record in records])


def _update(
    connection: sa.Connection,
    statement: sa.Update,
    records: Iterable[_T],
    values: Callable[[_T], dict[str, Any]],
) -> None:
    rows = [values(record) for record in records]
    if rows:
        connection.execute(statement, rows)
