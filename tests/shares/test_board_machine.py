"""The board under random events: invariants after each, and an end that adds up."""

from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
from driver import FLOAT_MODEL, MODEL, House, PlayedRig
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from shares.board import Policy
from shares.board import effects as fx
from shares.board import events as ev
from shares.trust.record import Finding, record_of

RIGS = [
    ("anna", "one"),
    ("anna", "two"),
    ("ben", "r"),
    ("cheat", "r"),
    ("flip", "r"),
    ("coll", "r"),
]


def _cheats(key: tuple[int, int, int]) -> bool:
    return key[2] % 5 == 0


def _flips(key: tuple[int, int, int]) -> bool:
    return key[2] == 7


LIES = {"cheat": _cheats, "flip": _flips, "coll": _cheats}


class BoardMachine(RuleBasedStateMachine):
    """Rigs that are honest, false, colluding, slow or gone; customers that cancel; restarts."""

    @initialize(
        probation=st.integers(0, 3),
        reserve=st.integers(0, 5_000),
        by_itself=st.booleans(),
        floor=st.sampled_from([10_000, 300_000]),
        established=st.sets(st.sampled_from(RIGS)),
    )
    def begin(
        self,
        probation: int,
        reserve: int,
        by_itself: bool,
        floor: int,
        established: set[tuple[str, str]],
    ) -> None:
        policy = Policy(
            probation_shares=probation,
            check_floor_ppm=floor,
            initial_difficulty=1_000,
            min_difficulty=200,
            max_open_blocks=4,
        )
        self.house = House(policy, reserve=reserve, referee=by_itself)
        for account, rig in sorted(established):
            both = (MODEL, FLOAT_MODEL)
            self.house.established(account, rig, held=50_000, models=both)
        self.number = 0
        self.liars = False

    def online(self) -> list[PlayedRig]:
        return [rig for rig in self.house.rigs.values() if rig.session is not None]

    def holding(self) -> list[PlayedRig]:
        return [rig for rig in self.online() if rig.leases]

    @rule(
        rows=st.integers(1, 60),
        blocks=st.integers(1, 5),
        work=st.integers(1, 400),
        direct=st.booleans(),
        account=st.sampled_from(["customer", "other", "ben"]),
        budget=st.integers(0, 3_000),
        price=st.integers(1, 3),
        exact=st.booleans(),
    )
    def open_job(
        self,
        rows: int,
        blocks: int,
        work: int,
        direct: bool,
        account: str,
        budget: int,
        price: int,
        exact: bool,
    ) -> None:
        if len(self.house.jobs) < 6:
            self.number += 1
            self.house.open_job(
                self.number,
                rows,
                account=account,
                blocks=min(blocks, rows),
                work=[work + row % 7 for row in range(rows)],
                lengths=[16 + row % 5 for row in range(rows)],
                direct=direct,
                check_budget=budget,
                price=price,
                exact=exact,
                model=MODEL if exact else FLOAT_MODEL,
            )

    @rule(
        who=st.sampled_from(RIGS),
        credit=st.integers(1, 5),
        resumed=st.booleans(),
        kinds=st.sampled_from([(), ("K",), ("L",), ("K", "L")]),
        place=st.sampled_from([0.0, 0.5, -0.7, 3.0]),
    )
    def connect(
        self,
        who: tuple[str, str],
        credit: int,
        resumed: bool,
        kinds: tuple[str, ...],
        place: float,
    ) -> None:
        rig = self.house.connect(*who, credit=credit, resumed=resumed, kinds=kinds)
        rig.place = place
        if rig.session is not None:
            event = ev.ModelStaged(at=self.house.at, session=rig.session, model=FLOAT_MODEL)
            self.house.handle(event)
        if who[0] in LIES:
            self.liars = True
            rig.lies = LIES[who[0]]
            rig.liar = "c" if who[0] in ("cheat", "coll") else who[0]

    @precondition(lambda self: self.house.excused)
    @rule(data=st.data(), guilty=st.booleans())
    def decide(self, data: st.DataObject, guilty: bool) -> None:
        self.house.decide(data.draw(st.sampled_from(sorted(self.house.excused))), guilty=guilty)

    @precondition(lambda self: self.online())
    @rule(data=st.data())
    def disconnect(self, data: st.DataObject) -> None:
        self.house.disconnect(data.draw(st.sampled_from(self.online())))

    @precondition(lambda self: self.holding())
    @rule(data=st.data(), rows=st.integers(1, 40), seconds=st.floats(0, 3))
    def submit(self, data: st.DataObject, rows: int, seconds: float) -> None:
        rig = data.draw(st.sampled_from(self.holding()))
        lease = data.draw(st.sampled_from(list(rig.leases)))
        self.house.at += seconds
        held = rig.leases[lease]
        effects = self.house.submit(rig, lease, rows)
        if any(isinstance(effect, fx.Refused) for effect in effects):
            held.next_part += 10**6  # the rig gives it up
            rig.leases.pop(lease, None)

    @precondition(lambda self: any(rig.dropped for rig in self.online()))
    @rule(data=st.data(), rows=st.integers(1, 40))
    def submit_what_was_cancelled(self, data: st.DataObject, rows: int) -> None:
        rig = data.draw(st.sampled_from([rig for rig in self.online() if rig.dropped]))
        lease, held = rig.dropped.popitem()
        if lease not in rig.leases:
            rig.leases[lease] = held
            self.house.submit(rig, lease, rows)
            rig.leases.pop(lease, None)

    @precondition(lambda self: self.holding())
    @rule(data=st.data(), part=st.integers(0, 3), first=st.integers(0, 30), rows=st.integers(1, 9))
    def nonsense(self, data: st.DataObject, part: int, first: int, rows: int) -> None:
        """A part that is a duplicate, out of order or of nobody's lease changes nothing."""
        rig = data.draw(st.sampled_from(self.holding()))
        known = [*rig.leases, *(max(self.house.shares, default=0) + 1 for _ in "x")]
        lease = data.draw(st.sampled_from(known))
        held = rig.leases.get(lease)
        if held is not None and (held.next_part, held.next_row) == (part, first):
            return
        effects = self.house.raw_submit(
            rig, lease, part=part, first_row=first, rows=rows, final=False
        )
        kinds = [type(effect) for effect in effects]
        assert fx.PayloadDropped in kinds
        assert fx.Refused in kinds
        assert fx.PartAccepted not in kinds

    @precondition(lambda self: self.holding())
    @rule(data=st.data(), malformed=st.booleans())
    def give_up(self, data: st.DataObject, malformed: bool) -> None:
        rig = data.draw(st.sampled_from(self.holding()))
        lease = data.draw(st.sampled_from(list(rig.leases)))
        del rig.leases[lease]
        assert rig.session is not None
        kind = ev.PartMalformed if malformed else ev.LeaseReleased
        self.house.handle(
            kind(
                at=self.house.at, session=rig.session, request=1, lease=lease, reason="wrong_shape"
            )
        )

    @rule(seconds=st.sampled_from([0.5, 1.0, 6.0, 20.0, 50.0, 200.0]))
    def tick(self, seconds: float) -> None:
        self.house.tick(seconds)

    @precondition(lambda self: self.house.asked)
    @rule()
    def referee(self) -> None:
        asked, self.house.asked = self.house.asked, []
        self.house.asked = asked[:1]
        self.house.answer()
        self.house.asked = asked[1:] + self.house.asked

    @precondition(lambda self: self.house.comparing)
    @rule()
    def compare(self) -> None:
        self.house.compare()

    @precondition(lambda self: self.house.jobs)
    @rule(data=st.data(), reason=st.sampled_from(["cancelled", "expired"]))
    def cancel(self, data: st.DataObject, reason: str) -> None:
        self.house.cancel(data.draw(st.sampled_from(sorted(self.house.jobs))), reason)

    @rule(account=st.sampled_from([account for account, _ in RIGS]))
    def close_account(self, account: str) -> None:
        self.house.handle(ev.AccountClosed(at=self.house.at, account=account))

    @rule(seconds=st.floats(0, 20))
    def restart(self, seconds: float) -> None:
        self.house.restart(seconds)

    @rule(units=st.integers(0, 10_000), who=st.sampled_from(RIGS))
    def release_hold(self, units: int, who: tuple[str, str]) -> None:
        known = self.house.trust.get(who)
        if known is not None:
            self.house.handle(
                ev.HoldReleased(
                    at=self.house.at, account=who[0], rig=who[1], units=min(units, known.held)
                )
            )

    @rule(units=st.integers(0, 1_000))
    def seed_reserve(self, units: int) -> None:
        self.house.seeded += units
        self.house.handle(ev.ReserveChanged(at=self.house.at, units=units))

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.house.handle(ev.LeasingPaused(at=self.house.at, paused=paused))

    @invariant()
    def records_follow_from_what_was_found(self) -> None:
        """What is derived anew from wrong rows, for an appeal, is what the board has counted."""
        if not hasattr(self, "house"):
            return
        house = self.house
        counts: dict[str, Counter[tuple[float, int, str]]] = {}
        for row in house.refuted:
            settled = house.settled.get(row.lease)
            innocent = settled is not None and settled.outcome == "innocent"
            if row.lease not in house.excused and not innocent:
                share = house.shares[row.lease].issued
                at = settled.at if settled is not None else row.at
                counts.setdefault(share.account, Counter())[at, row.lease, share.rig] += 1
        for account, found in counts.items():
            findings = [Finding(*place, rows) for place, rows in found.items()]
            for rig, record in record_of(findings, house.policy.ban_seconds).items():
                trust = house.trust[account, rig]
                assert (trust.isolated, trust.offences) == (record.isolated, record.offences)
                assert trust.banned_until == record.banned_until

    def teardown(self) -> None:
        """Honest rigs finish everything; every row is there once, true, and paid once."""
        if not hasattr(self, "house"):
            return
        house = self.house
        house.referee = True
        house.answer()
        house.handle(ev.LeasingPaused(at=house.at, paused=False))
        for rig in self.online():
            house.disconnect(rig)
        house.tick(100)
        house.tick(200)
        rigs = [
            house.connect(name, model[0], model=model)
            for name in ("zoe", "yan")
            for model in (MODEL, FLOAT_MODEL)
        ]
        house.work(*rigs, seconds=3, limit=400)
        for number, job in house.jobs.items():
            if job.closed == "completed":
                house.assert_complete(number, true=not self.liars)
        house.assert_money()
        assert not house.board.jobs()
        for share in house.shares.values():
            assert share.verdict != "accepted" or share.issued.account in ("zoe", "yan")


BoardMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestBoard = BoardMachine.TestCase
