"""``inferpool lab``: a log from a file, an example or a pool, and what it prints."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pool.cli import cli


def lab(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["lab", *map(str, arguments)])


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    file = tmp_path / "shares.jsonl"
    done = lab("--example", 1, "--write-log", file)
    assert done.exit_code == 0
    assert "1591 shares of 21 jobs" in done.stdout
    return file


def test_an_example_is_shown_under_every_scheme() -> None:
    done = lab("--example", 1, "--reserve", 500_000)

    assert done.exit_code == 0
    for word in ("PROPORTIONAL", "PPLNS", "PPS", "hopper: first 43.5 % of each round", "splitter"):
        assert word in done.stdout
    assert "pps: a reserve of 500,000 is ever exhausted with probability 4.2e-33 at most" in (
        done.stdout
    )
    assert "When in a round work is done is worth" in done.stdout


def test_a_written_log_gives_the_same_facts(log_file: Path) -> None:
    facts = json.loads(lab("--log", log_file, "--json").stdout)

    assert facts == json.loads(lab("--example", 1, "--json").stdout)
    assert [one["scheme"] for one in facts["schemes"]] == ["proportional", "pplns", "pps"]
    for one in facts["schemes"]:
        assert one["missing"] == 0
        assert one["brought"] + one["income"] == sum(
            one[where] for where in ("paid", "returned", "open", "fractions", "reserve")
        )
        assert sum(account["units"] for account in one["accounts"]) == one["paid"]
    assert facts["reserve"]["needed"] > 0
    assert facts["reserve"]["ruin"] is None


def test_settings_change_what_they_say(log_file: Path) -> None:
    arguments = ("--account", "miner01", "--window", 5_000, "--round", 600, "--pieces", 3)
    facts = json.loads(lab("--log", log_file, *arguments, "--close", "--json").stdout)
    pplns = facts["schemes"][1]

    assert facts["tried_by"] == "miner01"
    assert (pplns["window"], pplns["fractions"]) == (5_000, 0)
    assert "splitter: 3 accounts" in {one["strategy"] for one in pplns["strategies"]}


def test_csv_has_a_line_for_each_account_and_strategy(log_file: Path) -> None:
    lines = list(csv.DictReader(io.StringIO(lab("--log", log_file, "--csv").stdout)))

    assert len(lines) == 3 * (12 + 5)
    first = lines[0]
    assert (first["scheme"], first["kind"], first["name"]) == ("proportional", "account", "miner01")
    assert int(first["units"]) == 259_065
    hopper = next(one for one in lines if one["kind"] == "strategy")
    assert float(hopper["gained"]) == 0


def test_the_classic_rounds_show_a_gain() -> None:
    (classic,) = json.loads(lab("--example", 1, "--classic", "--json").stdout)["schemes"]

    assert classic["scheme"] == "classic"
    assert classic["strategies"][0]["relative"] == pytest.approx(0.28, abs=0.03)


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_a_picture_is_drawn(tmp_path: Path, suffix: str) -> None:
    picture = tmp_path / f"schemes.{suffix}"
    again = tmp_path / f"again.{suffix}"
    assert lab("--example", 2, "--plot", picture).exit_code == 0
    assert lab("--example", 2, "--plot", again).exit_code == 0

    start = picture.read_bytes()[:8]
    assert start == (b"\x89PNG\r\n\x1a\n" if suffix == "png" else b"<?xml ve")
    assert picture.read_bytes() == again.read_bytes()


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = lab("--example", 2, "--plot", tmp_path / "x.svg")

    assert done.exit_code == 1
    assert "pip install 'inferpool[lab]'" in done.stderr
    assert not (tmp_path / "x.svg").exists()


def test_a_pool_writes_its_log(tmp_path: Path) -> None:
    folder, file = tmp_path / "pool", tmp_path / "log.jsonl"
    assert CliRunner().invoke(cli, ["init", str(folder)]).exit_code == 0

    done = lab("--config", folder, "--write-log", file, "--pseudonyms")
    assert done.exit_code == 0
    assert "0 shares of 0 jobs" in done.stdout
    done = lab("--log", file)
    assert done.exit_code == 0
    assert "no shares with a verdict" in done.stdout
    for form in ("--json", "--csv"):
        assert lab("--config", folder, form).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        ((), "one of --log, --example and --config", 2),
        (("--example", 1, "--config", "x"), "one of --log, --example and --config", 2),
        (("--config", "x", "--classic"), "--classic goes with --example", 2),
        (("--example", 1, "--pseudonyms"), "--pseudonyms goes with --config", 2),
        (("--example", 1, "--csv", "--json"), "--csv or --json, not both", 2),
        (("--example", 1, "--plot", "x.gif"), "end its name with .svg or .png", 2),
        (("--example", 1, "--account", "zoe"), "account zoe has no shares in this log", 1),
        (("--example", 1, "--part", 2), "part must be between 0 and 1", 1),
        (("--example", 1, "--write-log", "/no/such/folder/x"), "cannot write /no/such", 1),
        (("--example", 1, "--plot", "/no/such/folder/x.svg"), "cannot write /no/such", 1),
    ],
)
def test_what_cannot_be_done_is_said(arguments, said: str, code: int) -> None:
    done = lab(*arguments)

    assert done.exit_code == code
    assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "line 1: the log is empty"),
        (b'{"format": "inferpool-shares-1"}\n{"at": 1}\n', "line 2: field verdict"),
        (b"\xff\xfe", "codec can't decode"),
    ],
)
def test_a_log_that_cannot_be_read_is_named(tmp_path: Path, text: bytes, said: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_bytes(text)
    done = lab("--log", file)

    assert done.exit_code == 1
    assert f"{file}: " in done.stderr
    assert said in done.stderr


def test_a_reserve_that_cannot_last_is_told() -> None:
    done = lab("--example", 1, "--income-ppm", 100)

    assert "rejected shares cost more than levies bring" in done.stdout
