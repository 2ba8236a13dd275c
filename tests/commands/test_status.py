"""``inferpool status``: a running pool's facts, over HTTP."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from pool.commands.status import status

FACTS = {
    "rigs": [
        {
            "account": "alice",
            "rig": "rig1",
            "models": ["minilm"],
            "difficulty": 20_000,
            "rate": 10_250.4,
            "leases": 2,
            "accepted_rows": 1_500,
            "shares_cleared": 12,
            "shares_rejected": 0,
            "check_rate_ppm": 17_000,
        }
    ],
    "jobs": [
        {
            "model": "minilm",
            "operation": "embed",
            "rows": 3_000,
            "accepted_rows": 1_500,
            "cleared_rows": 1_400,
            "rate": 10_000.0,
            "eta_seconds": 75.0,
        }
    ],
    "models": [{"name": "minilm"}],
    "rate": 10_250.4,
    "open_work": 500_000,
    "checks": 3,
}


@pytest.fixture
def told(scripted_pool):
    def invoke(facts, *arguments):
        scripted_pool.answers["/api/v1/status"] = facts
        return CliRunner().invoke(status, ["--url", scripted_pool.url, *arguments])

    return invoke


def test_rigs_and_jobs_are_listed_with_their_speed(told):
    """Names, work a second, what is accepted, and how long it will take."""
    result = told(FACTS)

    assert result.exit_code == 0, result.output
    for words in ("alice.rig1", "10,250", "1.7%", "3,000", "1:15", "models: minilm"):
        assert words in result.stdout


def test_json_is_what_the_pool_said(told):
    """Nothing is lost on the way."""
    assert json.loads(told(FACTS, "--json").stdout) == FACTS


def test_an_idle_pool_without_rigs_is_no_error(told):
    """A pool that was just started says so."""
    result = told({"rigs": [], "jobs": [], "models": [], "rate": 0.0})

    assert result.exit_code == 0
    assert "0 rigs" in result.stdout
    assert "model add" in result.stdout


def test_a_pool_that_does_not_run_is_named_with_its_address():
    """Port 9 of this machine answers nobody."""
    result = CliRunner().invoke(status, ["--url", "http://127.0.0.1:9"])

    assert result.exit_code == 1
    assert "no answer from http://127.0.0.1:9" in result.stderr


@pytest.mark.parametrize(
    ("listen", "asked"),
    [("127.0.0.1:9", "http://127.0.0.1:9"), ("0.0.0.0:9", "http://127.0.0.1:9")],
)
def test_without_a_url_the_settings_say_where(tmp_path, listen, asked):
    """On the pool's own machine nothing has to be typed."""
    (tmp_path / "pool.toml").write_text(f'[http]\nlisten = "{listen}"\n')
    result = CliRunner().invoke(status, ["--config", str(tmp_path)])

    assert f"no answer from {asked}" in result.stderr
