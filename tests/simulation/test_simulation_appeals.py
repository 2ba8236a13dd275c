"""A referee that errs: the rig appeals, the referee runs again, and nobody honest has lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from audit import check_money, check_results
from sqlalchemy import select
from world import World, simulate

from pool.computed import Computed
from pool.store import schema
from pool.store.appeals import APPEALS_A_DAY, AppealError, open_appeal
from pool.store.ledger import balances
from pool.store.ledgeraudit import check_ledger
from pool.store.rejections import Rejection, rejections_after
from shares.board.effects import AppealGranted, RefereeWanted, TrustChanged
from shares.faults import of_share
from shares.results import DIGEST_BYTES


def referee_that_errs(world: World, number: int) -> None:
    """Tell the board something else of the first row of its answer of this number."""
    assert world.pool is not None
    referee, core = world.pool.referee, world.pool.core
    answers = 0

    def answer(order: RefereeWanted, rows: tuple[int, ...], computed: Computed) -> None:
        nonlocal answers
        digests = computed.digests
        if answers == number:
            digests = bytes([digests[0] ^ 1]) + digests[1:]
        answers += 1
        core.referee_answered(order, rows, digests)

    referee.answer = answer


def rejections(world: World, account: str) -> list[Rejection]:
    with world.store.database.read() as connection:
        return rejections_after(connection, account, 0, 1000)[0]


def appeal(world: World, account: str, lease: int) -> None:
    with world.store.database.write() as connection:
        at = world.epoch + world.now
        open_appeal(connection, world.store.has_block, account, lease, at)


async def decided(world: World, account: str, lease: int) -> Rejection:
    with trio.fail_after(600):
        while True:
            (found,) = (r for r in rejections(world, account) if r.lease == lease)
            if found.appeal is not None and found.appeal.outcome is not None:
                return found
            await trio.sleep(1)


async def appeal_everything(world: World, account: str) -> None:
    """A miner who is sure of its machine."""
    while True:
        for one in rejections(world, account):
            if one.refuted and one.appeal is None:
                appeal(world, account, one.lease)
        await trio.sleep(1)


async def a_referee_that_erred_once(world: World) -> None:
    world.customer("carol")
    world.add_rig("anna", "rig", 20.0)
    referee_that_errs(world, 3)
    await world.start_rigs()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(appeal_everything, world, "anna")
        job = await world.open_job("carol", 3_000)
        await job.over.wait()
        nursery.cancel_scope.cancel()
    await trio.sleep(10)
    await world.settle()

    check_results(world, job)
    wrong = [r for r in rejections(world, "anna") if r.refuted]
    assert wrong
    for found in wrong:
        assert found.appeal is not None
        assert found.appeal.outcome == "overturned"
        assert found.appeal.units == found.lost + found.fined > 0
    with pytest.raises(AppealError, match="appealed before"):
        appeal(world, "anna", wrong[0].lease)
    assert sum(isinstance(r, AppealGranted) for _, r in world.records) == len(wrong)
    last = [r for _, r in world.records if isinstance(r, TrustChanged)][-1]
    assert (last.account, last.isolated, last.offences) == ("anna", 0, 0)
    assert last.banned_until <= world.epoch + world.now
    with world.store.database.read() as connection:
        check_ledger(connection)
        appeals = connection.execute(select(schema.appeal)).all()
        available = balances(connection, "available:").get("available:anna", 0)
    assert available == sum(row.paid for row in appeals) == sum(row.units for row in appeals)


def test_an_error_of_the_referee_is_made_good(tmp_path: Path) -> None:
    """The count is taken back; what was lost is paid from what the operator earned."""
    simulate(3, tmp_path, a_referee_that_erred_once)


async def a_liar_appeals(world: World) -> None:
    world.customer("carol")
    world.add_rigs(3, 5.0, 20.0)
    world.add_rig("liar", "rig", 20.0, falsehood=0.2)
    await world.start_rigs()
    job = await world.open_job("carol", 2_000)
    await job.over.wait()
    await world.settle()
    check_results(world, job)
    check_money(world, job)

    shares = [r for r in rejections(world, "liar") if r.refuted]
    assert shares
    appeal(world, "liar", shares[0].lease)
    found = await decided(world, "liar", shares[0].lease)
    await world.settle()

    assert found.appeal is not None
    assert (found.appeal.outcome, found.appeal.units) == ("upheld", 0)
    for row in found.refuted:
        assert len(row.given) == len(row.expected) == DIGEST_BYTES
        assert row.given != row.expected
    with world.store.database.read() as connection:
        assert balances(connection, "available:").get("available:liar", 0) == 0
    for one in rejections(world, "liar"):
        meaning = of_share(one.state, one.fault, one.verdict, one.reason, refuted=bool(one.refuted))
        assert meaning.words
        if one.verdict != "rejected" and not one.refuted:
            assert (one.fined, meaning.cost) == (0, "scheduling") or meaning.fault == "rig"
    with pytest.raises(LookupError):
        appeal(world, "m00", shares[0].lease)
    honest = [r for n in range(3) for r in rejections(world, f"m{n:02}") if not r.refuted]
    for one in honest:
        with pytest.raises(AppealError, match="nothing to appeal"):
            appeal(world, one.account, one.lease)


def test_a_liars_appeal_changes_nothing(tmp_path: Path) -> None:
    """The referee says the same again; only a share of one's own can be appealed."""
    simulate(4, tmp_path, a_liar_appeals)


def there(_job: int, _block: int) -> bool:
    return True


def gone(_job: int, _block: int) -> bool:
    return False


async def many_appeals(world: World) -> None:
    world.customer("carol")
    world.add_rig("anna", "rig", 20.0)
    with world.store.database.write() as connection:
        for lease in range(1, APPEALS_A_DAY + 2):
            connection.exec_driver_sql(
                "INSERT INTO lease (id, account, rig, model, operation, segments, rows, work, "
                "difficulty, issued, deadline, state, fault, verdict, forfeit, suspect) VALUES "
                "(?, 'anna', 'rig', 'd', 'embed', ?, 1, 1, 1, 1, 1, 'done', 'none', "
                "'rejected', 0, 0)",
                (1000 + lease, bytes.fromhex("9195010000" + "01" + "a3726f77")),
            )
            connection.exec_driver_sql(
                "INSERT INTO refuted VALUES (?, 1, 0, 0, x'00', x'01', 0, 1.0, 0)", (1000 + lease,)
            )
            if lease <= APPEALS_A_DAY:
                open_appeal(connection, there, "anna", 1000 + lease, world.epoch)
        last = 1000 + APPEALS_A_DAY + 1
        with pytest.raises(AppealError, match="try again tomorrow"):
            open_appeal(connection, there, "anna", last, world.epoch)
        with pytest.raises(AppealError, match="the rows of this share are gone"):
            open_appeal(connection, gone, "anna", last, world.epoch + 90_000)
        open_appeal(connection, there, "anna", last, world.epoch + 90_000)


def test_the_referee_cannot_be_flooded_with_appeals(tmp_path: Path) -> None:
    """Each account has a few a day."""
    simulate(5, tmp_path, many_appeals)
