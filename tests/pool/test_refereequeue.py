"""Whose rows the referee computes next."""

from __future__ import annotations

from collections import Counter

from pool.refereequeue import RefereeQueue, Run
from shares.board.effects import RefereeWanted


def put(queue: RefereeQueue, account: str, rows: int, *, group: str = "", urgent: bool = False):
    order = RefereeWanted("m", "digest", 1, 0, tuple(range(rows)), urgent, account, group)
    run = Run(order, order.rows, lambda *_: None, lambda *_: True)
    queue.put(run)
    return run


def served(queue: RefereeQueue, rows: int) -> Counter[str]:
    """{account: rows} of the next so many rows."""
    found: Counter[str] = Counter()
    while found.total() < rows:
        run = queue.take()
        assert run is not None
        found[run.order.account] += len(run.rows)
    return found


def test_a_flood_holds_up_its_own_shares_only() -> None:
    """A thousand rows of one account, urgent as they are, wait behind nobody else's ten."""
    queue = RefereeQueue()
    for _ in range(100):
        put(queue, "flood", 10, urgent=True)
    for name in ("anna", "ben"):
        put(queue, name, 10)

    assert served(queue, 30) == {"flood": 10, "anna": 10, "ben": 10}
    assert queue.rows == 990


def test_many_names_of_one_network_block_have_one_turn_between_them() -> None:
    """Names cost nothing; a block has one turn, and in it each name its own."""
    queue = RefereeQueue()
    for _ in range(10):
        for n in range(10):
            put(queue, f"sybil{n}", 1, group="192.0.2.0/24")
        put(queue, "anna", 1)
        put(queue, "ben", 1, group="198.51.100.0/24")
    found = served(queue, 30)

    assert (found["anna"], found["ben"]) == (10, 10)
    assert [found[f"sybil{n}"] for n in range(10)] == [1] * 10


def test_turns_go_by_rows() -> None:
    """Whoever asks for much at once is not served more."""
    queue = RefereeQueue()
    for _ in range(10):
        put(queue, "much", 64)
    for _ in range(100):
        put(queue, "little", 1)
    found = served(queue, 130)

    assert abs(found["much"] - found["little"]) <= 64


def test_disputes_come_first_within_an_account_and_nobody_saves_turns_up() -> None:
    """Who comes late begins where the others stand."""
    queue = RefereeQueue()
    late = put(queue, "anna", 1)
    first = put(queue, "anna", 1, urgent=True)
    assert [queue.take(), queue.take(), queue.take()] == [first, late, None]
    for _ in range(50):
        put(queue, "anna", 1)
    served(queue, 40)
    for _ in range(50):
        put(queue, "ben", 1)

    assert served(queue, 10) == {"anna": 5, "ben": 5}


def test_the_pools_own_wishes_come_behind_a_few_disputes() -> None:
    """A closed account's hold keeps no share waiting for its verdict."""
    queue = RefereeQueue()
    own = put(queue, "", 64)
    others = [put(queue, name, 64) for name in ("anna", "ben", "anna")]

    taken = [queue.take() for _ in range(5)]
    assert set(map(id, taken[:3])) == set(map(id, others))
    assert taken[3:] == [own, None]


def test_what_failed_waits_behind_the_rest_of_its_account() -> None:
    """Urgent or not, for it may fail again."""
    queue = RefereeQueue()
    failed = put(queue, "anna", 1, urgent=True)
    assert queue.take() is failed
    other = put(queue, "anna", 1)
    queue.put(failed, last=True)

    assert [queue.take(), queue.take()] == [other, failed]


def test_a_flood_leaves_the_pools_own_wishes_a_sixteenth() -> None:
    """Appeals and closed holds go on, whoever floods the referee; and take no more than that."""
    queue = RefereeQueue()
    for _ in range(400):
        put(queue, "flood", 4, urgent=True)
    for _ in range(40):
        put(queue, "", 8)
    found = served(queue, 1_280)

    assert found[""] == 1_280 // 16


def test_the_pools_own_wishes_save_no_turns_up() -> None:
    """After a long flood without any, the next one waits as if it had come first."""
    queue = RefereeQueue()
    for _ in range(100):
        put(queue, "flood", 16)
    served(queue, 800)
    put(queue, "", 16)

    assert served(queue, 15 * 16) == {"flood": 15 * 16}
    assert served(queue, 16) == {"": 16}
