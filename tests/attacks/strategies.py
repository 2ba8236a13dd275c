"""What cheats try: each says what a rig answers for a share, and what of it was computed."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

import trio
from attackrig import Answer, AttackRig, Strategy, Task
from sqlalchemy import func, select

from pool.store import schema
from pool.store.ledger import balance
from shares.money import posting

BYTES = 32


def falsehood(row: bytes, secret: str = "lie") -> bytes:
    """A wrong answer that is the same for everybody who knows the secret."""
    return blake2b(row, digest_size=BYTES, key=secret.encode()).digest()


def one_in(row: bytes, number: int, secret: str = "pick") -> bool:
    """Whether a row is among one in ``number``, the same for everybody."""
    return int.from_bytes(falsehood(row, secret)[:8], "big") % number == 0


# ── loud ──────────────────────────────────────────────────────────────────────


class Zeros(Strategy):
    """All rows are zeros."""

    def answer(self, task: Task) -> Answer:
        answer = Answer.honest(task)
        for row in range(task.count):
            answer.fake(row, bytes(BYTES))
        return answer


class Noise(Strategy):
    """All rows are random."""

    def answer(self, task: Task) -> Answer:
        answer = Answer.honest(task)
        for row in range(task.count):
            answer.fake(row, task.random.randbytes(BYTES))
        return answer


class Constant(Strategy):
    """Computes the share's first row and answers it for every other."""

    def answer(self, task: Task) -> Answer:
        answer = Answer.honest(task)
        for row in range(1, task.count):
            answer.fake(row, task.true[0].tobytes())
        return answer


class Reversed(Strategy):
    """Right answers in the wrong order: a fault more than a cheat, for all is computed."""

    def answer(self, task: Task) -> Answer:
        answer = Answer.honest(task)
        answer.values[:] = task.true[::-1]
        return answer


class Replayed(Strategy):
    """Computes its first share, and answers with it for ever after."""

    def __init__(self) -> None:
        self._kept: list[bytes] = []

    def answer(self, task: Task) -> Answer:
        answer = Answer.honest(task)
        if not self._kept:
            self._kept = [value.tobytes() for value in task.true]
            return answer
        for row in range(task.count):
            answer.fake(row, self._kept[row % len(self._kept)])
        return answer


class Copied(Strategy):
    """Answers with what other accounts answered, for whatever rows."""

    def answer(self, task: Task) -> Answer:
        answer = Answer.honest(task)
        book = task.rig.book.first
        others = [value for account, value in book.values() if account != task.rig.account]
        for row in range(task.count if others else 0):
            answer.fake(row, task.random.choice(others))
        return answer


class Cheaper(Strategy):
    """A smaller model, a skipped layer, fewer bits: all rows a little wrong for half the effort."""

    def answer(self, task: Task) -> Answer:
        answer = Answer.honest(task)
        for row, tokens in enumerate(task.rows):
            answer.fake(row, falsehood(tokens, "smaller"), effort=0.5)
        return answer


class Truncated(Strategy):
    """Computes the first half of every input that has more than one token."""

    def answer(self, task: Task) -> Answer:
        answer = Answer.honest(task)
        for row, tokens in enumerate(task.rows):
            if task.lengths[row] > 1:
                half = tokens[: 4 * (task.lengths[row] // 2)]
                answer.fake(row, blake2b(half, digest_size=BYTES).digest(), effort=0.5)
        return answer


class StaleTable(Strategy):
    """Looks half of the rows up in a table that was made with another model."""

    def answer(self, task: Task) -> Answer:
        answer = Answer.honest(task)
        for row, tokens in enumerate(task.rows):
            if one_in(tokens, 2, "table"):
                answer.fake(row, falsehood(tokens, "table"))
        return answer


# ── quiet ─────────────────────────────────────────────────────────────────────


class Sometimes(Strategy):
    """False rows where ``when`` says so: one of ``number`` of them."""

    def __init__(self, number: int, when: Callable[[Task, int], bool] = lambda task, row: True):
        self._number = number
        self._when = when

    def answer(self, task: Task) -> Answer:
        answer = Answer.honest(task)
        for row in range(task.count):
            if self._when(task, row) and task.random.random() * self._number < 1:
                answer.fake(row, task.random.randbytes(BYTES))
        return answer


def long_rows(task: Task, row: int) -> bool:
    """Rows of seven or eight tokens, of one to eight."""
    return task.lengths[row] >= 7


def short_shares(task: Task, row: int) -> bool:
    return task.count <= 8


def job_ends(task: Task, row: int) -> bool:
    """When nine tenths of the rows have been answered."""
    return len(task.rig.book.first) >= 0.9 * task.rig.book.rows


def after(rows: int) -> Callable[[Task, int], bool]:
    """When the rig has answered so many rows, and so is sampled thinly."""
    return lambda task, row: task.rig.answered >= rows


class Colluding(Strategy):
    """False rows and falsehoods by the row's hash: whoever of the ring checks it agrees."""

    def __init__(self, number: int, secret: str = "ring") -> None:
        self._number = number
        self._secret = secret

    def answer(self, task: Task) -> Answer:
        answer = Answer.honest(task)
        for row, tokens in enumerate(task.rows):
            if one_in(tokens, self._number, self._secret):
                answer.fake(row, falsehood(tokens, self._secret))
        return answer


class Forgiven(Strategy):
    """One false row in every share until a share is rejected, then honest for ever.

    It tries to live on the forgiveness of a first isolated wrong row.
    """

    def answer(self, task: Task) -> Answer:
        answer = Answer.honest(task)
        if rejected_shares(task.rig) == 0 and task.rig.answered >= 64:
            row = task.random.randrange(task.count)
            answer.fake(row, task.random.randbytes(BYTES))
        return answer


class Drain(Strategy):
    """Honest until some of its hold was paid out, then ``shares`` false ones."""

    def __init__(self, shares: int) -> None:
        self._left = shares

    def answer(self, task: Task) -> Answer:
        answer = Answer.honest(task)
        if self._left and paid_out(task.rig) > 0:
            self._left -= 1
            for row in range(task.count):
                answer.fake(row, task.random.randbytes(BYTES))
        return answer


# ── with leases and names ─────────────────────────────────────────────────────


class Sybils(Strategy):
    """Accounts that are honest for some rows, answer one share falsely and never come back."""

    def __init__(self, rigs: list[AttackRig], patience: int) -> None:
        self._waiting = rigs  # accounts to come
        self._patience = patience
        self._done: set[str] = set()

    def answer(self, task: Task) -> Answer:
        answer = Answer.honest(task)
        rig = task.rig
        if rig.answered < self._patience:
            return answer
        for row in range(task.count):
            answer.fake(row, task.random.randbytes(BYTES))
        if rig.account not in self._done:
            self._done.add(rig.account)
            rig.world.nursery.start_soon(self._vanish, rig)
        return answer

    async def _vanish(self, rig: AttackRig) -> None:
        await trio.sleep(3.0)
        rig.crash()
        if self._waiting:
            self._waiting.pop(0).start()


class Hoarder(Strategy):
    """Computes 64 rows, then takes all the leases it can get and never answers again."""

    def answer(self, task: Task) -> Answer:
        answer = Answer.honest(task)
        if task.rig.answered >= 64:
            answer.effort[:] = 0
            answer.seconds = 10_000.0
        return answer


class Dropper(Strategy):
    """Throws every second share away after it has seen it, by pulling its plug."""

    def answer(self, task: Task) -> Answer:
        answer = Answer.honest(task)
        if task.random.random() < 0.5:
            answer.effort[:] = 0
            answer.seconds = 10_000.0
            task.rig.reboot(1.0)
        return answer


class Resumer(Strategy):
    """Honest, but cuts its line in every share and dials again to go on."""

    def answer(self, task: Task) -> Answer:
        task.rig.unplug()
        return Answer.honest(task)


# ── without a falsehood ──────────────────────────────────────────────────────


class Table(Strategy):
    """Looks half of the rows up in a table that it computed before: its answers are right."""

    def answer(self, task: Task) -> Answer:
        answer = Answer.honest(task)
        for row, tokens in enumerate(task.rows):
            if one_in(tokens, 2, "table"):
                answer.effort[row] = 0.0
        return answer


# ── as checkers ───────────────────────────────────────────────────────────────


def seen(task: Task, row: int) -> tuple[str, bytes] | None:
    """Who answered this row before, and what: then it is a check, or leased a second time."""
    return task.rig.book.first.get(task.rows[row])


class CopyingChecker(Strategy):
    """Honest with fresh rows; repeats the first answer, whosever it was, without computing.

    ``ring``: the accounts whose answers it knows; without it, by magic, those of everybody.
    """

    def __init__(self, ring: tuple[str, ...] = ()) -> None:
        self._ring = ring

    def answer(self, task: Task) -> Answer:
        answer = Answer.honest(task)
        for row in range(task.count):
            known = seen(task, row)
            if known and (not self._ring or known[0] in self._ring):
                answer.fake(row, known[1])
        return answer


class AccusingChecker(Strategy):
    """Honest with fresh rows; answers noise for what others answered, to have them convicted."""

    def answer(self, task: Task) -> Answer:
        answer = Answer.honest(task)
        for row in range(task.count):
            if seen(task, row):
                answer.fake(row, task.random.randbytes(BYTES))
        return answer


# ── faults, not cheats ────────────────────────────────────────────────────────


class BitFlip(Strategy):
    """Honest; one bit of one row is wrong, once, after ``rows`` rows."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._flipped = False

    def answer(self, task: Task) -> Answer:
        answer = Answer.honest(task)
        if not self._flipped and task.rig.answered >= self._rows:
            self._flipped = True
            answer.values[task.count // 2, 5] ^= 1
        return answer


# ── what a miner can read about itself ────────────────────────────────────────


def rejected_shares(rig: AttackRig) -> int:
    lease = schema.lease
    with rig.world.store.database.read() as connection:
        return int(
            connection.scalar(
                select(func.count()).where(
                    lease.c.account == rig.account, lease.c.verdict == "rejected"
                )
            )
            or 0
        )


def paid_out(rig: AttackRig) -> int:
    with rig.world.store.database.read() as connection:
        return balance(connection, posting.available(rig.account))
