"""What an account's wrong rows come to, all of them or without one."""

from __future__ import annotations

import pytest

from shares.trust.record import Finding, Record, record_of

HOUR = 3_600.0


def records(*findings: Finding) -> dict[str, Record]:
    return record_of(findings, HOUR)


def test_a_first_isolated_row_is_none_and_a_second_is_an_offence() -> None:
    first, second = Finding(10.0, 1, "r", 1), Finding(20.0, 2, "r", 1)

    assert records(first)["r"] == Record(1, 0, 0.0, [])
    assert records(first, second)["r"] == Record(2, 1, 20.0 + HOUR, [20.0])
    assert records(second)["r"] == Record(1, 0, 0.0, [])


def test_an_account_has_one_bit_flip_and_one_ladder_of_bans() -> None:
    """Whichever of its rigs it was."""
    findings = (
        Finding(10.0, 1, "r", 1),
        Finding(20.0, 2, "s", 1),
        Finding(30.0, 3, "r", 2),
    )
    found = records(*findings)

    assert found["s"] == Record(1, 1, 20.0 + HOUR, [20.0])
    assert found["r"] == Record(1, 1, 30.0 + 2 * HOUR, [30.0])


@pytest.mark.parametrize("wrong", [1, 2])
def test_what_is_found_at_one_moment_is_one_offence(wrong: int) -> None:
    """And taking back one of two shares leaves what the other alone had come to."""
    one, other = Finding(10.0, 1, "r", wrong), Finding(10.0, 2, "r", wrong)

    assert records(one, other)["r"].offences == 1
    assert records(other)["r"].offences == (1 if wrong > 1 else 0)


def test_what_is_found_of_a_banned_rig_is_part_of_its_offence() -> None:
    """Of a share that was cleared before; once the ban is over it is another matter."""
    offence = Finding(10.0, 1, "r", 2)

    assert records(offence, Finding(20.0, 2, "r", 1))["r"] == records(offence)["r"]
    assert records(offence, Finding(11.0 + HOUR, 2, "r", 2))["r"].offences == 2


def test_another_row_of_a_share_that_is_counted_through_is_an_offence() -> None:
    first, counted = Finding(10.0, 1, "r", 1), Finding(12.0, 1, "r", 1)

    assert records(first, counted)["r"] == Record(1, 1, 12.0 + HOUR, [12.0])
