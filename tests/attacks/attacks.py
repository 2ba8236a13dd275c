"""The attacks that are measured, each a line of the matrix."""

from __future__ import annotations

from collections.abc import Callable

import strategies as s
from attackrig import AttackRig, Book, Strategy, Thief, add
from campaign import Attack, Recruit
from world import World


def one(strategy: Callable[[], Strategy]) -> Recruit:
    """One account with one machine."""
    return ring(1, strategy)


def ring(accounts: int, *strategies: Callable[[], Strategy], kind: str = "") -> Recruit:
    """So many accounts with a machine each; the strategies in turn.

    ``kind``: what they call their devices; "": as the honest rigs do.
    """

    def recruit(world: World, book: Book, speed: float) -> list[AttackRig]:
        rigs = [
            add(world, book, f"x{number}", speed, strategies[number % len(strategies)]())
            for number in range(accounts)
        ]
        for rig in rigs:
            rig.kind = kind
        return rigs

    return recruit


def sybils(accounts: int, patience: int) -> Recruit:
    """Accounts that come one after the other."""

    def recruit(world: World, book: Book, speed: float) -> list[AttackRig]:
        waiting: list[AttackRig] = []
        strategy = s.Sybils(waiting, patience)
        rigs = [add(world, book, f"x{n}", speed, strategy) for n in range(accounts)]
        for rig in rigs[1:]:
            rig.late = True
            waiting.append(rig)
        return rigs

    return recruit


def thief(world: World, book: Book, speed: float) -> list[AttackRig]:
    """A machine that claims another account's name without its token."""
    return [add(world, book, "x0", speed, s.Noise(), Thief)]


def tuned(**trust: float) -> dict[str, dict[str, float]]:
    return {"trust": dict(trust)}


# Pay leaves the hold after 20 seconds, above the price of 100 rows: in the simulated minutes.
QUICK_HOLD = tuned(hold_seconds=20.0, referee_floor_ppm=20_000)

ATTACKS: tuple[Attack, ...] = (
    Attack("honest", one(Strategy), blameless=True),
    Attack("zeros", one(s.Zeros), loud=True),
    Attack("noise", one(s.Noise), loud=True),
    Attack("constant answer", one(s.Constant), loud=True),
    Attack("reversed rows", one(s.Reversed), loud=True),
    Attack("cached answer for another share", one(s.Replayed), loud=True),
    Attack("copies of another account's results", one(s.Copied), loud=True),
    Attack("smaller model, fewer bits", one(s.Cheaper), loud=True),
    Attack("truncated inputs", one(s.Truncated), loud=True),
    Attack("a stale table of answers", one(s.StaleTable), loud=True),
    Attack("1 row in 2 false", one(lambda: s.Sometimes(2)), loud=True),
    Attack("1 row in 10 false", one(lambda: s.Sometimes(10)), loud=True),
    Attack("1 row in 100 false", one(lambda: s.Sometimes(100)), luck=2.0),
    Attack("1 row in 1,000 false", one(lambda: s.Sometimes(1_000)), luck=1.0),
    Attack("false on long rows only", one(lambda: s.Sometimes(4, s.long_rows)), luck=5.0),
    Attack("false in short shares only", one(lambda: s.Sometimes(4, s.short_shares)), luck=5.0),
    Attack("false at the job's end only", one(lambda: s.Sometimes(4, s.job_ends)), luck=10.0),
    Attack(
        "false at low rates only, 1 in 20", one(lambda: s.Sometimes(20, s.after(120))), luck=15.0
    ),
    Attack("sleeper", one(lambda: s.Sometimes(1, s.after(120))), loud=True),
    Attack("forgiven once", one(s.Forgiven), luck=25.0),
    Attack(
        "drain the hold, one share",
        one(lambda: s.Drain(1)),
        rows=4_000,
        settings=QUICK_HOLD,
        luck=80.0,
    ),
    Attack("drain the hold, a burst", one(lambda: s.Drain(99)), rows=4_000, settings=QUICK_HOLD),
    Attack("2 colluding accounts, 1 in 20", ring(2, lambda: s.Colluding(20))),
    Attack("10 colluding accounts, 1 in 20", ring(10, lambda: s.Colluding(20))),
    Attack("a whole pool colludes, 1 in 20", ring(6, lambda: s.Colluding(20)), honest=0),
    Attack("a whole pool colludes, 1 in 200", ring(6, lambda: s.Colluding(200)), honest=0),
    Attack("sybils, false at once", sybils(6, 0)),
    Attack("sybils, false once established", sybils(6, 80)),
    Attack("lease hoarder", one(s.Hoarder), blameless=True),
    Attack("dropper", one(s.Dropper), blameless=True),
    Attack("resumer", one(s.Resumer), blameless=True),
    Attack(
        "checkers that copy their own ring",
        ring(2, lambda: s.CopyingChecker(("x0", "x1"))),
        rows=2_400,
        speed=20.0,
        luck=60.0,
        gain=175.0,
    ),
    Attack(
        "checkers that copy everybody",
        ring(2, s.CopyingChecker),
        rows=2_400,
        speed=20.0,
        luck=60.0,
        gain=175.0,
    ),
    Attack(
        "checker that agrees with liars",
        ring(4, lambda: s.Colluding(50), s.CopyingChecker),
        rows=2_400,
        speed=20.0,
    ),
    Attack("checker that accuses", one(s.AccusingChecker), rows=2_400, speed=40.0),
    Attack("a customer with a cheating rig", one(lambda: s.Sometimes(50)), customer=True, luck=5.0),
    # Twelve accounts whose every share is disputed: the referee computes them all.
    Attack("referee flooding, 12 accounts", ring(12, lambda: s.Sometimes(2))),
    Attack("a right table of answers", one(s.Table), blameless=True, luck=250.0, gain=750.0),
    Attack("another account's name", thief, blameless=True),
    Attack("bit flip on an honest rig", one(lambda: s.BitFlip(100))),
    Attack(
        "a fault of one engine kind, 3 accounts",
        ring(3, lambda: s.Colluding(50, "kind"), kind="faulty"),
        victims=True,
    ),
    Attack(
        "cheats that name a kind of their own",
        ring(4, lambda: s.Colluding(20), kind="invented"),
    ),
    # The rows were chosen by the customer, who would like to have them for nothing.
    Attack(
        "a customer whose rows trigger such a fault",
        ring(3, lambda: s.Colluding(10, "kind"), kind="faulty"),
        customer=True,
        victims=True,
    ),
)
