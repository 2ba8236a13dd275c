"""inferpool notify-test."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from pool.cli import cli


def test_it_says_what_arrived_and_what_is_missing(tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert run(cli, ["init", str(tmp_path)]).exit_code == 0
    config = ["--config", str(tmp_path)]
    nothing = run(cli, ["notify-test", *config])
    assert nothing.exit_code == 1
    assert "operator_webhook" in nothing.output
    file = tmp_path / "pool.toml"
    dead = 'operator_webhook = "http://127.0.0.1:9/hook"'
    file.write_text(file.read_text().replace('operator_webhook = ""', dead))
    refused = run(cli, ["notify-test", *config])
    assert refused.exit_code == 1
    assert "webhook: ConnectError" in refused.output
