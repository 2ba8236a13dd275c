"""The rig against a scripted pool on memory streams, under a virtual clock."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from scripted_pool import (
    ADDRESS,
    BLAKE2B_DIGEST,
    ScriptedPool,
    digests_of,
    rows_of,
)

from gpu_worker.config import PoolAddress
from stratum import messages as wire
from stratum.client import RigConnection
from stratum.errors import Code, ConnectionClosed


async def test_a_share_comes_back_in_numbered_parts(pool, start_rig, autojump_clock) -> None:
    """Ten rows at four a part: three parts in order, the last one final, every row right."""
    rig = start_rig(part_rows=4)
    session = await pool.session()
    rows = rows_of(10)

    session.give(7, rows)
    await pool.until(lambda: len(pool.rows(7)) == 10)

    parts = session.of(wire.Submit)
    assert [(p.lease, p.part, p.first_row, p.final) for p in parts] == [
        (7, 0, 0, False),
        (7, 1, 4, False),
        (7, 2, 8, True),
    ]
    assert pool.rows(7) == digests_of(rows)
    await pool.until(lambda: rig.shares_in_hand == 0)
    assert rig.telemetry.shares_done == 1
    assert rig.telemetry.parts_accepted == 3
    assert (rig.telemetry.rows, rig.telemetry.tokens) == (10, 30)


async def test_results_say_what_was_drawn_since_the_rig_connected(
    pool, start_rig, autojump_clock
) -> None:
    """Of all its devices; what an earlier connection has told is not told again."""
    rig = start_rig()
    session = await pool.session()
    (device,) = rig.telemetry.devices
    device.energy_joules = 40.0
    session.give(1, rows_of(2))
    await pool.until(lambda: len(pool.rows(1)) == 2)
    assert [part.joules for part in session.of(wire.Submit)] == [40.0]
    await session.cut()
    again = await pool.session(1)
    device.energy_joules = 52.5
    again.give(2, rows_of(2))
    await pool.until(lambda: len(pool.rows(2)) == 2)
    assert [part.joules for part in again.of(wire.Submit) if part.lease == 2] == [12.5]


async def test_the_handshake_says_who_and_what(pool, start_rig, autojump_clock) -> None:
    """Protocol, credit, devices, user and token, in the order of the protocol."""
    start_rig(credit=5)
    session = await pool.session()

    configure, subscribe, authorize, ready = session.received
    assert configure.protocol == 1
    assert configure.agent.startswith("inferpool/")
    assert (subscribe.session, subscribe.credit) == ("", 5)
    assert subscribe.devices[0].memory > 0
    assert (authorize.user, authorize.token) == ("alice.rig1", "secret")
    assert ready.model == BLAKE2B_DIGEST


async def test_a_part_holds_at_most_a_mebibyte_or_one_row(pool, start_rig, autojump_clock) -> None:
    """The bytes of a row decide how many fit; a row larger than that goes alone."""
    start_rig(part_rows=256, part_bytes=70)
    session = await pool.session()
    session.give(1, rows_of(5))
    await pool.until(lambda: len(pool.rows(1)) == 5)

    assert [p.outcome.values.shape for p in session.of(wire.Submit)] == [(2, 32), (2, 32), (1, 32)]

    alone = ScriptedPool(pool._nursery)
    start_rig(part_bytes=1, connector=alone.connector)
    session = await alone.session()
    session.give(1, rows_of(2))
    await alone.until(lambda: len(alone.rows(1)) == 2)
    assert [p.outcome.values.shape for p in session.of(wire.Submit)] == [(1, 32), (1, 32)]


async def test_a_slow_rig_sends_parts_of_a_few_seconds(
    pool, start_rig, steps, autojump_clock
) -> None:
    """Once its speed is known, a part covers two seconds and not a fixed number of rows."""
    steps.seconds = 32.0  # a second a row while parts have 32 rows
    start_rig(part_rows=256, part_seconds=8.0)
    session = await pool.session()
    session.give(1, rows_of(64))
    await pool.until(lambda: len(pool.rows(1)) == 64)
    session.give(2, rows_of(64))
    await pool.until(lambda: len(pool.rows(2)) == 64)

    first, second = (
        [p.outcome.values.shape[0] for p in session.of(wire.Submit) if p.lease == lease]
        for lease in (1, 2)
    )
    assert first == [32, 32]
    assert second == [8] * 8


async def test_parts_are_sent_while_the_next_is_computed(
    pool, start_rig, steps, autojump_clock
) -> None:
    """The first part arrives after one part's time, not after the share's."""
    steps.seconds = 1.0
    start_rig(part_rows=4)
    session = await pool.session()
    began = trio.current_time()

    session.give(7, rows_of(40))
    await pool.until(lambda: session.of(wire.Submit))

    assert trio.current_time() - began < 2.0


async def test_idle_time_is_counted_by_why(pool, start_rig, steps, autojump_clock) -> None:
    """Nothing between shares that lie there already; all of a pause is for want of a share."""
    steps.seconds = 1.0
    rig = start_rig(part_rows=4)
    session = await pool.session()
    for lease in (1, 2):
        session.give(lease, rows_of(8))
    await pool.until(lambda: len(pool.rows(2)) == 8)
    [device] = rig.telemetry.devices
    assert device.idle_share == 0.0
    await trio.sleep(10)
    session.give(3, rows_of(8))
    await pool.until(lambda: len(pool.rows(3)) == 8)

    assert device.busy_seconds == 6.0
    assert device.idle_seconds["no_share"] == pytest.approx(10.0, abs=0.5)
    assert device.idle_seconds["handover"] == 0.0
    assert device.idle_share == pytest.approx(10 / 16, abs=0.02)


async def test_shares_are_computed_in_the_order_they_came(pool, start_rig, autojump_clock) -> None:
    """The credit is used as a queue."""
    start_rig(credit=3)
    session = await pool.session()
    for lease in (5, 3, 9):
        session.give(lease, rows_of(6))
    await pool.until(lambda: len(pool.rows(9)) == 6)

    assert [p.lease for p in session.of(wire.Submit)] == [5, 5, 3, 3, 9, 9]


async def test_unacknowledged_parts_are_sent_again_after_a_lost_connection(
    pool, start_rig, autojump_clock
) -> None:
    """The rig names its session, sends what was not acknowledged, and finishes its shares."""
    rig = start_rig(part_rows=4)
    session = await pool.session()
    pool.on_submit = lambda s, part: None if part.part == 0 else "silence"
    rows = rows_of(12)
    session.give(7, rows)
    await pool.until(lambda: len(session.of(wire.Submit)) == 3)
    await pool.until(lambda: rig.telemetry.parts_accepted == 1)

    pool.on_submit = lambda *_: None
    await session.cut()
    again = await pool.session(1)
    await pool.until(lambda: len(pool.rows(7)) == 12)

    assert again.of(wire.Subscribe)[0].session == "s1"
    assert [p.part for p in again.of(wire.Submit)] == [1, 2]
    assert pool.rows(7) == digests_of(rows)


async def test_computing_goes_on_while_the_pool_is_away(
    pool, start_rig, steps, autojump_clock
) -> None:
    """A pool that restarts gets, when it is back, all that was computed meanwhile."""
    steps.seconds = 1.0
    rig = start_rig(part_rows=4)
    session = await pool.session()
    rows = rows_of(20)
    session.give(7, rows)
    await pool.until(lambda: session.of(wire.Submit))

    pool.down = True
    await session.cut()
    await pool.until(lambda: len(pool.dials) >= 6)
    assert rig.telemetry.rows == 20
    pool.down = False
    again = await pool.session(1)
    await pool.until(lambda: len(pool.rows(7)) == 20)

    assert pool.rows(7) == digests_of(rows)
    assert again.of(wire.Submit)[-1].final


async def test_a_duplicate_part_counts_as_acknowledged(pool, start_rig, autojump_clock) -> None:
    """The pool had it already: its answer was what got lost."""
    rig = start_rig(part_rows=4)
    session = await pool.session()
    pool.on_submit = lambda *_: "duplicate_part"

    session.give(7, rows_of(8))
    await pool.until(lambda: rig.telemetry.shares_done == 1)

    assert rig.shares_in_hand == 0
    assert rig.telemetry.parts_refused.total() == 0


async def test_a_stale_share_is_dropped_and_the_next_one_computed(
    pool, start_rig, steps, autojump_clock
) -> None:
    """An unknown lease ends the share at once, and nothing else."""
    steps.seconds = 1.0
    rig = start_rig(part_rows=1)
    session = await pool.session()
    pool.on_submit = lambda s, part: "unknown_lease" if part.lease == 7 else None

    session.give(7, rows_of(100))
    session.give(8, rows_of(2))
    await pool.until(lambda: len(pool.rows(8)) == 2)

    assert steps.parts < 10
    assert rig.telemetry.shares_lost == {"stale": 1}
    assert session.of(wire.Release) == []


@pytest.mark.parametrize(
    ("refusal", "release"), [("wrong_shape", "compute_failed"), ("pool_fault", "pool_fault")]
)
async def test_a_refused_part_gives_the_share_back(
    pool, start_rig, autojump_clock, refusal: str, release: str
) -> None:
    """It is counted by reason, and the lease released; the pool's own fault is named as such."""
    rig = start_rig(part_rows=4)
    session = await pool.session()
    pool.on_submit = lambda *_: refusal

    session.give(7, rows_of(12))
    await pool.until(lambda: session.of(wire.Release))

    assert [(r.lease, r.reason) for r in session.of(wire.Release)] == [(7, release)]
    assert rig.telemetry.parts_refused[refusal] >= 1
    assert rig.telemetry.shares_lost["refused"] == 1
    assert rig.shares_in_hand == 0


async def test_a_busy_pool_gets_the_part_again_later(pool, start_rig, autojump_clock) -> None:
    """A refusal for the pool's own limits costs a pause and no result."""
    start_rig(part_rows=4)
    session = await pool.session()
    pool.on_submit = lambda s, part: "busy" if s is session else None
    rows = rows_of(8)

    session.give(7, rows)
    await pool.until(lambda: len(pool.rows(7)) == 8)

    assert pool.rows(7) == digests_of(rows)
    assert len(pool.authorised) == 2


async def test_a_cancelled_share_stops_within_a_part(
    pool, start_rig, steps, autojump_clock
) -> None:
    """Each time the next share begins; the model is none the worse for it."""
    steps.seconds = 1.0
    rig = start_rig(part_rows=1)
    session = await pool.session()
    for lease in range(4):
        session.give(lease, rows_of(1000))
        await pool.until(lambda lease=lease: pool.rows(lease))
        session.tell(wire.Cancel(0, lease, "superseded"))
    session.give(8, rows_of(1))
    await pool.until(lambda: len(pool.rows(8)) == 1)

    assert steps.parts <= 12
    assert rig.telemetry.shares_lost == {"cancelled": 4}
    assert session.of(wire.ModelFailed) == session.of(wire.Release) == []


async def test_a_share_of_an_unknown_model_is_handed_back(pool, start_rig, autojump_clock) -> None:
    """Nothing is computed for a model that was not announced."""
    start_rig()
    session = await pool.session()

    session.give(7, rows_of(1), model="f" * 64)
    await pool.until(lambda: session.of(wire.Release))

    assert session.of(wire.Release)[0].reason == "unknown_model"


async def test_a_malformed_share_is_handed_back(pool, start_rig, autojump_clock) -> None:
    """Lengths that do not add up never reach the engine, and do not end the session."""
    start_rig()
    session = await pool.session()
    good = wire.Array("<u4", (1,), memoryview(b"\1\0\0\0"))
    bad = wire.Array("<u4", (1,), memoryview(b"\2\0\0\0"))

    session.tell(wire.Notify(0, 7, BLAKE2B_DIGEST, "digest", 60.0, wire.Rows(bad, good)))
    session.give(8, rows_of(1))
    await pool.until(lambda: len(pool.rows(8)) == 1)

    assert [(r.lease, r.reason) for r in session.of(wire.Release)] == [(7, "bad_message")]


async def test_shares_far_beyond_the_credit_are_handed_back(
    pool, start_rig, steps, autojump_clock
) -> None:
    """A rig does not hoard what a careless pool pours out."""
    steps.seconds = 1.0
    start_rig(credit=2, part_rows=4)
    session = await pool.session()

    for lease in range(10):
        session.give(lease, rows_of(8))
    await pool.until(lambda: len(session.of(wire.Release)) == 6)

    assert {r.lease for r in session.of(wire.Release)} == set(range(4, 10))
    await pool.until(lambda: len(pool.rows(3)) == 8)


async def test_a_message_and_a_difficulty_are_taken_note_of(
    pool, start_rig, autojump_clock
) -> None:
    """Words for the miner and the work per share change nothing else."""
    rig = start_rig()
    session = await pool.session()

    session.tell(wire.ShowMessage(0, "maintenance at noon"))
    session.tell(wire.SetDifficulty(0, 4711))
    session.give(7, rows_of(1))
    await pool.until(lambda: len(pool.rows(7)) == 1)

    assert rig.telemetry.difficulty == 4711


async def test_reconnect_waits_for_answers_then_comes_back_in_time(
    pool, start_rig, steps, autojump_clock
) -> None:
    """What was sent is acknowledged first; the wait is kept; the shares in hand go on."""
    steps.seconds = 1.0
    rig = start_rig(part_rows=4)
    session = await pool.session()
    rows = rows_of(40)
    session.give(7, rows)
    await pool.until(lambda: len(session.of(wire.Submit)) == 3)

    session.tell(wire.Reconnect(0, "", 0, 30.0))
    await pool.until(lambda: session.over)
    left = trio.current_time()
    assert rig.telemetry.parts_accepted >= 3
    await pool.until(lambda: len(pool.rows(7)) == 40)

    assert 30.0 <= pool.dials[-1] - left <= 32.0
    assert pool.rows(7) == digests_of(rows)


async def test_nothing_more_is_sent_after_the_pool_asked_to_reconnect(
    pool, start_rig, steps, autojump_clock
) -> None:
    """Answers are waited for a few seconds; parts that become ready wait for the next session."""
    steps.seconds = 1.0
    start_rig(part_rows=4)
    session = await pool.session()
    pool.on_submit = lambda s, part: "silence" if s is session else None
    session.give(7, rows_of(40))
    await pool.until(lambda: len(session.of(wire.Submit)) == 3)

    session.tell(wire.Reconnect(0, "", 0, 0.0))
    await pool.until(lambda: len(pool.rows(7)) == 40)

    assert len(session.of(wire.Submit)) == 3
    assert [p.part for p in pool.authorised[1].of(wire.Submit)] == list(range(10))


async def test_reconnect_is_followed_within_the_pools_own_name_only(
    pool, start_rig, autojump_clock
) -> None:
    """Another port or a host below the one named: yes. A stranger's host: no."""
    start_rig()
    for number, (host, port) in enumerate(
        [("", 4444), ("eu.pool.example", 0), ("thief.example", 3333), ("evilpool.example", 0)]
    ):
        session = await pool.session(number)
        session.tell(wire.Reconnect(0, host, port, 0.0))
    await pool.session(4)

    assert pool.dialled == [
        ADDRESS,
        PoolAddress("pool.example", 4444),
        PoolAddress("eu.pool.example", 4444),
        ADDRESS,
        ADDRESS,
    ]


async def test_the_same_backoff_is_kept_while_a_pool_is_down(
    pool, start_rig, autojump_clock
) -> None:
    """From about a second to about a minute; and never less than half a second."""
    pool.down = True
    start_rig()
    await pool.until(lambda: len(pool.dials) == 20)

    gaps = [b - a for a, b in zip(pool.dials, pool.dials[1:], strict=False)]
    assert 0.5 <= gaps[0] <= 1.0
    assert all(30.0 <= gap <= 60.0 for gap in gaps[-10:])


async def test_a_wrong_token_is_retried_slowly(pool, start_rig, autojump_clock) -> None:
    """The rig neither gives up nor spins; when the operator has acted, it works."""
    pool.deny = "bad_token"
    start_rig()
    await pool.until(lambda: len(pool.dials) == 5)
    gaps = [b - a for a, b in zip(pool.dials, pool.dials[1:], strict=False)]
    assert all(gap >= 60.0 for gap in gaps)

    pool.deny = ""
    session = await pool.session()
    session.give(1, rows_of(2))
    await pool.until(lambda: len(pool.rows(1)) == 2)


async def test_a_ban_in_the_middle_of_a_session_is_respected(
    pool, start_rig, autojump_clock
) -> None:
    """A pool's last word that denies the rig is not answered by a quick return."""
    start_rig()
    session = await pool.session()
    ended = trio.current_time()

    words = session.connection.session.close(Code.BANNED, "banned", "until noon")
    await session.connection._last_words(words, ConnectionClosed("banned"))
    await pool.until(lambda: len(pool.dials) == 2)

    assert pool.dials[1] - ended >= 60.0


async def test_a_pool_that_accepts_and_says_nothing_is_left(start_rig, autojump_clock) -> None:
    """The handshake has a time limit, so that failover can begin."""
    dials = []
    kept = []

    async def mute(address: PoolAddress) -> RigConnection:
        dials.append(trio.current_time())
        ours, theirs = trio.testing.memory_stream_pair()
        kept.append(theirs)
        return RigConnection(ours)

    start_rig(connector=mute)
    await trio.sleep(70)

    assert len(dials) >= 2
    assert 30.0 <= dials[1] - dials[0] <= 32.0
