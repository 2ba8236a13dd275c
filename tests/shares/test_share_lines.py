"""Share logs as lines: what is written is read again, and errors name line and field."""

from __future__ import annotations

import json

import pytest

from shares.money.examplelog import example_log
from shares.money.sharelines import FORMAT, ShareLinesError, read_lines, write_lines

HEAD = json.dumps({"format": FORMAT})
JOB = {"job": "1", "work": 100, "bounty": 300, "ended": 9.5}
SHARE = {"at": 1, "account": "a", "job": "1", "work": 7, "units": 21, "verdict": "cleared"}


def test_what_is_written_is_read_again_in_any_order() -> None:
    log = example_log(5)
    lines = list(write_lines(log))

    assert read_lines(lines) == log
    assert read_lines([lines[0], *reversed(lines[1:])]) == log
    assert read_lines([line + "\n" for line in lines] + ["\n"]) == log


def test_fields_that_nobody_knows_are_passed_over() -> None:
    log = read_lines([HEAD, json.dumps(JOB | {"note": 1}), json.dumps(SHARE | {"rig": "x"})])

    assert log.shares[0].units == 21
    assert log.jobs["1"].ended == 9.5


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "line 1: the log is empty"),
        ([json.dumps(JOB)], "line 1: field format: begin the log with"),
        ([HEAD, "{"], "line 2: not JSON"),
        ([HEAD, "", "[1]"], "line 3: not a JSON object"),
        ([HEAD, "[" * 100_000], "line 2: not JSON"),
        ([HEAD, json.dumps(JOB | {"bounty": 1.5})], "line 2: field bounty: write a whole number"),
        ([HEAD, json.dumps(JOB | {"bounty": 2**63})], "line 2: field bounty: write a whole number"),
        ([HEAD, json.dumps(JOB | {"work": 0})], "line 2: field work: .* at least 1, not 0"),
        ([HEAD, json.dumps(JOB | {"ended": "now"})], "line 2: field ended: write seconds"),
        ([HEAD, json.dumps(JOB | {"job": 1})], "line 2: field job: write a text, not 1"),
        ([HEAD, json.dumps(SHARE | {"verdict": "fine"})], "field verdict: write cleared or"),
        ([HEAD, json.dumps(SHARE | {"verdict": []})], "field verdict: write cleared or"),
        ([HEAD, json.dumps(SHARE | {"at": -1})], "line 2: field at: write seconds"),
        ([HEAD, json.dumps(SHARE | {"at": True})], "line 2: field at: write seconds"),
        ([HEAD, json.dumps(SHARE | {"at": float("nan")})], "line 2: field at: write seconds"),
        ([HEAD, json.dumps(SHARE | {"units": True})], "line 2: field units: write a whole number"),
        ([HEAD, json.dumps(SHARE | {"account": ""})], "line 2: field account: write a text"),
        ([HEAD, json.dumps(SHARE)], "job 1 has shares and no line of its own"),
        ([HEAD, json.dumps(JOB), json.dumps(JOB)], "job 1 is told twice"),
    ],
)
def test_errors_name_line_and_field(lines: list[str], said: str) -> None:
    with pytest.raises(ShareLinesError, match=said):
        read_lines(lines)
