"""What can be seen of a running pool: facts for the status page and samples for Prometheus."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from pool.batches.endpoints import labels_of
from pool.core import Core
from pool.gateway import Gateway
from pool.jobwatch import JobWatch
from pool.ledgerwatch import LedgerWatch
from pool.metrics import Sample
from pool.models import Models
from pool.referee import Referee
from pool.rigwalk import walk_rigs
from pool.rigwatch import RigWatch, rows_until_drawn
from shares.board.views import SessionView, TrustView


async def overview(
    core: Core, gateway: Gateway, models: Models, referee: Referee
) -> dict[str, Any]:
    """The public facts: rigs, jobs, models, totals. Plain values, ready for JSON."""
    board = core.board
    names = {model.digest: model.name for model in models.list()}
    rigs = []
    async with aclosing(walk_rigs(board)) as walk:
        async for view, trust in walk:
            rigs.append(_rig(view, trust, names))
    totals = board.totals()
    return {
        "rigs": rigs,
        "jobs": [
            {
                "model": names.get(job.model, job.model),
                "operation": job.operation,
                "direct": job.direct,
                "rows": job.rows,
                "accepted_rows": job.accepted_rows,
                "cleared_rows": job.cleared_rows,
                "work": job.work,
                "rate": job.rate,
                "eta_seconds": job.eta,
            }
            for job in board.jobs().values()
        ],
        "models": [
            {
                "name": m.name,
                "model": m.digest,
                "numerics": m.manifest.numerics,
                "operations": list(m.manifest.operations),
                "labels": list(labels_of(m.manifest)),
                "prompts": m.manifest.prompts,
                "default_prompt": m.manifest.default_prompt,
            }
            for m in models.list()
        ],
        "connections": gateway.connections,
        "rate": totals.rate,
        "leases": totals.leases,
        "open_work": totals.open_work,
        "leased_work": totals.leased_work,
        "unjudged": totals.unjudged,
        "checks": totals.checks,
        "referee_waiting_rows": referee.waiting_rows,
        "referee_rows": referee.rows,
        "referee_rigs": gateway.court.present,
        "reserve": totals.reserve,
        "leasing_paused": totals.paused,
    }


def _rig(view: SessionView, trust: TrustView, names: dict[str, str]) -> dict[str, Any]:
    return {
        "account": view.account,
        "rig": view.rig,
        "models": [names.get(digest, digest) for digest in view.models],
        "difficulty": view.difficulty,
        "rate": view.rate,
        "leases": view.leases,
        "in_hand": view.in_hand,
        "unjudged": view.unjudged,
        "established": trust.established,
        "held": trust.held,
        "accepted_rows": trust.accepted_rows,
        "accepted_work": trust.accepted_work,
        "shares_cleared": trust.cleared_shares,
        "shares_rejected": trust.rejected_shares,
        "offences": trust.offences,
        "check_rate_ppm": trust.check_rate_ppm,
        "referee_rate_ppm": trust.referee_rate_ppm,
    }


def samples(
    core: Core,
    gateway: Gateway,
    referee: Referee,
    watch: LedgerWatch,
    jobs: JobWatch,
    rigs: RigWatch,
) -> list[Sample]:
    """What is kept outside the metrics themselves, read at each scrape."""
    totals = core.board.totals()
    counted, traffic = gateway.statistics, gateway.traffic
    found = [
        Sample("inferpool_connections", "Connections open now.", gateway.connections),
        Sample("inferpool_connections_opened_total", "Connections taken.", counted.opened),
        Sample("inferpool_received_bytes_total", "Bytes from rigs.", traffic["bytes_in"]),
        Sample("inferpool_sent_bytes_total", "Bytes to rigs.", traffic["bytes_out"]),
        Sample("inferpool_received_frames_total", "Frames from rigs.", traffic["frames_in"]),
        Sample("inferpool_sent_frames_total", "Frames to rigs.", traffic["frames_out"]),
        Sample("inferpool_rate", "Work a second of the connected rigs.", totals.rate),
        Sample(
            "inferpool_declared_rate",
            "Work a second by the difficulty that rigs suggest, of those that suggest one.",
            gateway.declared_rate,
        ),
        Sample("inferpool_jobs", "Open jobs.", totals.jobs),
        Sample("inferpool_blocks", "Blocks in memory.", totals.blocks),
        Sample("inferpool_leases", "Shares in rigs' hands.", totals.leases),
        Sample("inferpool_shares_unjudged", "Shares that wait for a verdict.", totals.unjudged),
        Sample("inferpool_open_work", "Work not leased, in open jobs.", totals.open_work),
        Sample("inferpool_leased_work", "Work in rigs' hands.", totals.leased_work),
        Sample("inferpool_checks_open", "Rows drawn and not yet checked.", totals.checks),
        Sample("inferpool_reserve_units", "Reserve free for checks.", totals.reserve),
        Sample("inferpool_leasing_paused", "1 while too much waits for the disk.", totals.paused),
        Sample(
            "inferpool_waiting_bytes",
            "Bytes of results that wait for the disk.",
            core.committer.waiting_bytes,
        ),
        Sample("inferpool_referee_waiting_rows", "Rows it was asked for.", referee.waiting_rows),
        Sample(
            "inferpool_referee_rigs",
            "Connected rigs that the operator named as the referee's.",
            gateway.court.present,
        ),
        Sample(
            "inferpool_ledger_violations",
            "1 when the ledger was found not to add up, or to be altered; always 0.",
            watch.violations,
        ),
        Sample("inferpool_ledger_entries", "Ledger entries that were recomputed.", watch.entries),
        Sample("inferpool_referee_rows_total", "Rows the referee computed.", referee.rows),
        Sample("inferpool_referee_seconds_total", "Time it computed.", referee.seconds),
        *_rigs(rigs),
        *_jobs(jobs),
        *_money(watch),
    ]
    for name, text, label, counts in (
        (
            "inferpool_connections_refused_total",
            "Connections not taken.",
            "reason",
            counted.refused,
        ),
        (
            "inferpool_authorisations_total",
            "Attempts to authorise.",
            "outcome",
            counted.authorisations,
        ),
        (
            "inferpool_protocol_errors_total",
            "Connections closed for what they sent.",
            "reason",
            counted.violations,
        ),
        (
            "inferpool_malformed_parts_total",
            "Parts of wrong structure.",
            "reason",
            counted.malformed,
        ),
    ):
        found.extend(
            Sample(name, text, count, ((label, value),)) for value, count in counts.items()
        )
    return found


def _rigs(watch: RigWatch) -> list[Sample]:
    """Sessions by state, how closely rigs are checked, the fastest by name, at the last look."""
    sessions = "inferpool_sessions", "Authorised sessions by state: with shares in hand or without."
    found = [
        Sample(*sessions, count, (("state", state),)) for state, count in watch.sessions.items()
    ]
    if watch.chances is not None:
        mean, least = watch.chances
        found += [
            Sample(
                "inferpool_check_ratio",
                "Chance of an ordinary row to be computed again, mean over the connected rigs.",
                mean,
            ),
            Sample(
                "inferpool_detection_rows",
                "Wrong rows of the rig that is checked least until one is drawn with 95 %.",
                rows_until_drawn(least, 0.95),
            ),
        ]
    return found + [
        Sample(
            "inferpool_top_rig_rate",
            "Work a second of the fastest rigs (metrics.top_rigs of them).",
            rate,
            (("rig", name),),
        )
        for name, rate in watch.fastest
    ]


def _jobs(jobs: JobWatch) -> list[Sample]:
    """Queues, batches by state, the tightest deadline, bans, and the disk, at the last look."""
    found = [Sample("inferpool_bans", "Rigs that are banned now.", jobs.bans)]
    for priority, queue in jobs.queues.items():
        label = (("priority", priority),)
        found += [
            Sample("inferpool_queue_jobs", "Open jobs by priority.", queue.jobs, label),
            Sample("inferpool_queue_work", "Their work not accepted yet.", queue.work, label),
            Sample(
                "inferpool_queue_age_seconds",
                "How long the oldest of them with work left has waited.",
                queue.age,
                label,
            ),
        ]
    if jobs.slack is not None:
        text = "Time between when a batch will be done and when it must be, the least of all."
        found.append(Sample("inferpool_deadline_slack_seconds", text, jobs.slack))
    text = "Batches by state."
    found += [
        Sample("inferpool_batches", text, count, (("state", state),))
        for state, count in jobs.batches.items()
    ]
    text = "Bytes on the disk, by what they are."
    return found + [
        Sample("inferpool_store_bytes", text, size, (("what", what),))
        for what, size in jobs.bytes.items()
    ]


def _money(watch: LedgerWatch) -> list[Sample]:
    """Where all units are, and payouts by state, as they were at the last look."""
    units = "inferpool_ledger_units", "Units by where they are; deposited is what came in."
    payouts = "inferpool_payouts", "Payouts that are not over, by state."
    on_the_way = "inferpool_payout_units", "Units of payouts that are not over, by state."
    return [
        *(Sample(*units, value, (("place", place),)) for place, value in watch.units.items()),
        *(Sample(*payouts, n, (("state", state),)) for state, (n, _) in watch.payouts.items()),
        *(Sample(*on_the_way, n, (("state", state),)) for state, (_, n) in watch.payouts.items()),
    ]
