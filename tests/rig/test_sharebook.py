"""The book of shares in hand: what is computed, sent, acknowledged, handed back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_worker.sharebook import Share, ShareBook


def take(book: ShareBook, lease: int, rows: int = 4) -> Share:
    lengths = np.full(rows, 2, np.uint32)
    share = book.take(lease, "model", "digest", lengths, np.arange(2 * rows, dtype=np.uint32))
    assert share is not None
    return share


def rows(count: int) -> np.ndarray:
    return np.zeros((count, 32), np.uint8)


def test_parts_are_numbered_in_order_and_the_last_is_final() -> None:
    """Part numbers and first rows follow one another; only the part with the last row is final."""
    book = ShareBook()
    share = take(book, 7, rows=5)

    parts = [book.add_part(share, rows(n), ()) for n in (2, 2, 1)]

    assert [(p.number, p.first_row, p.final) for p in parts if p] == [
        (0, 0, False),
        (1, 2, False),
        (2, 4, True),
    ]
    assert [book.next_unsent() for _ in range(4)] == [*parts, None]


def test_a_share_is_done_when_its_last_part_is_acknowledged() -> None:
    """Answers may come in any order; the share leaves the book with the last of them."""
    book = ShareBook()
    share = take(book, 7)
    first = book.add_part(share, rows(2), ())
    second = book.add_part(share, rows(2), ())
    assert first is not None
    assert second is not None

    assert book.acknowledge(second) is None
    assert book.acknowledge(second) is None, "a repeated answer changes nothing"
    assert 7 in book
    assert book.acknowledge(first) is share
    assert 7 not in book


def test_an_acknowledged_share_that_is_still_computing_stays() -> None:
    """All parts so far being durable does not end a share that has rows left."""
    book = ShareBook()
    share = take(book, 7)
    part = book.add_part(share, rows(2), ())
    assert part is not None

    assert book.acknowledge(part) is None
    assert 7 in book


def test_after_a_lost_connection_unacknowledged_parts_are_sent_again_in_order() -> None:
    """What was acknowledged is not sent again; the rest is, before what comes later."""
    book = ShareBook()
    one, two = take(book, 1, rows=6), take(book, 2, rows=2)
    a, b = book.add_part(one, rows(2), ()), book.add_part(one, rows(2), ())
    c = book.add_part(two, rows(1), ())
    assert a is not None
    for _ in range(3):
        book.next_unsent()
    book.acknowledge(a)

    book.disconnected()
    d = book.add_part(one, rows(2), ())

    assert [book.next_unsent() for _ in range(4)] == [b, c, d, None]


def test_a_dropped_share_takes_its_parts_with_it() -> None:
    """Parts of a cancelled share are neither sent nor counted, and its computation is told."""
    book = ShareBook()
    share = take(book, 7)
    part = book.add_part(share, rows(2), ())
    assert part is not None
    assert book.unacknowledged_bytes == 64

    assert book.drop(7) is share

    assert share.dropped
    assert book.next_unsent() is None
    assert book.add_part(share, rows(2), ()) is None
    assert book.acknowledge(part) is None
    assert book.unacknowledged_bytes == 0
    assert book.drop(7) is None


def test_a_release_is_remembered_until_the_pool_has_answered() -> None:
    """A share handed back while the connection is down is reported in a later session."""
    book = ShareBook()
    take(book, 7)

    book.release(7, "stopping")
    book.disconnected()

    assert book.releases == {7: "stopping"}
    book.released(7)
    assert book.releases == {}


def test_shares_are_dealt_in_the_order_in_which_they_came() -> None:
    """A share leaves the list with its last row, and one that is dropped at once."""
    book = ShareBook()
    one, two, three = take(book, 9), take(book, 3), take(book, 5)

    assert list(book.undealt()) == [one, two, three]
    one.rows_dealt = one.rows
    two.rows_dealt = two.rows - 1
    book.drop(5)
    assert list(book.undealt()) == [two]


def test_whoever_computes_a_share_is_told_when_it_is_dropped() -> None:
    """Released or cancelled: each device that has rows of it stops, once."""
    book = ShareBook()
    stopped = []
    for lease in (1, 2):
        share = take(book, lease)
        share.when_dropped += [lambda: stopped.append("a"), lambda: stopped.append("b")]

    book.drop(1)
    book.release(2, "stopping")
    book.drop(2)

    assert stopped == ["a", "b", "a", "b"]


def test_a_share_sent_again_by_the_pool_is_kept_as_it_is() -> None:
    """A repeated lease does not start the computation over."""
    book = ShareBook()
    share = take(book, 7)

    assert book.take(7, "model", "digest", share.lengths, share.tokens) is None
    assert list(book) == [share]


@pytest.mark.parametrize(
    ("lengths", "tokens"),
    [([3], 2), ([1], 2), ([], 0), ([[1]], 1), ([2**32 - 1, 3], 2)],
)
def test_rows_that_do_not_add_up_are_refused(lengths: list[int], tokens: int) -> None:
    """A share whose lengths and tokens disagree never reaches the engine."""
    with pytest.raises(ValueError, match="lengths"):
        ShareBook().take(
            1, "m", "digest", np.array(lengths, np.uint32), np.zeros(tokens, np.uint32)
        )


@pytest.mark.parametrize("count", [0, 5])
def test_an_engine_that_gives_too_many_rows_or_none_is_found_out(count: int) -> None:
    """The book refuses a part that does not fit the rows left."""
    book = ShareBook()
    share = take(book, 1, rows=4)

    with pytest.raises(ValueError, match="rows were computed"):
        book.add_part(share, rows(count), ())


@settings(deadline=None)  # a busy machine is no failure
@given(st.data())
def test_every_row_is_delivered_once_whatever_the_connection_does(
    data: st.DataObject,
) -> None:
    """Random computing, sending, losing and acknowledging: each row is acknowledged once."""
    book = ShareBook()
    count = data.draw(st.integers(1, 20))
    share = take(book, 1, rows=count)
    in_flight = []
    durable: list[int] = []
    for _ in range(60):
        action = data.draw(st.sampled_from(["compute", "send", "acknowledge", "lose"]))
        if action == "compute" and not share.computed:
            size = data.draw(st.integers(1, share.rows - share.rows_computed))
            book.add_part(share, rows(size), ())
        elif action == "send" and (part := book.next_unsent()) is not None:
            in_flight.append(part)
        elif action == "acknowledge" and in_flight:
            part = in_flight.pop(0)
            book.acknowledge(part)
            durable.extend(range(part.first_row, part.first_row + len(part.values)))
        elif action == "lose":
            in_flight.clear()
            book.disconnected()
    while 1 in book:
        if not share.computed:
            book.add_part(share, rows(share.rows - share.rows_computed), ())
        book.disconnected()
        while (part := book.next_unsent()) is not None:
            book.acknowledge(part)
            durable.extend(range(part.first_row, part.first_row + len(part.values)))

    assert durable == list(range(count))
