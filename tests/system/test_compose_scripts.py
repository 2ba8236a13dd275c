"""What the containers of compose.yaml start, started without containers."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import httpx
import pytest
from harness import ROOT, Process, free_ports

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(240)]


def test_pool_and_rig_come_up_twice_with_the_same_tokens(tmp_path: Path) -> None:
    stratum, http, metrics = free_ports(3)
    secrets, alerts = tmp_path / "secrets", tmp_path / "alerts"
    for folder in (secrets, alerts):
        folder.mkdir()
    text = (ROOT / "compose" / "pool.toml").read_text()
    for old, new in (
        ("/data", str(tmp_path / "data")),
        ("0.0.0.0:3333", f"127.0.0.1:{stratum}"),
        ("0.0.0.0:8080", f"127.0.0.1:{http}"),
        ("/alerts/secret", str(alerts / "secret")),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "pool.toml").write_text(text)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "INFERPOOL_CONFIG": str(tmp_path / "pool.toml"),
        "INFERPOOL_SECRETS": str(secrets),
        "INFERPOOL_ALERTS": str(alerts),
        "INFERPOOL_POOL": f"stratum+tcp://127.0.0.1:{stratum}",
        "INFERPOOL_CACHE": str(tmp_path / "cache"),
        "INFERPOOL_METRICS_PORT": str(metrics),
    }
    tokens = []
    for _ in range(2):
        rig = Process([str(ROOT / "compose" / "start-rig.sh")], environment)
        pool = Process([str(ROOT / "compose" / "start-pool.sh")], environment)
        try:
            pool.text("listening")
            pool.text("rig connected")
            assert httpx.get(f"http://127.0.0.1:{http}/").status_code == 200
            assert "inferpool_rig_connected 1" in httpx.get(f"http://127.0.0.1:{metrics}/").text
            tokens.append({file.name: file.read_text() for file in secrets.iterdir()})
            secret = (alerts / "secret").read_text().strip()
            taken = httpx.post(
                f"http://127.0.0.1:{http}/api/v1/alerts",
                json={"alerts": []},
                headers={"authorization": f"Bearer {secret}"},
            )
            assert taken.status_code == 200
        finally:
            codes = [rig.stop(), pool.stop()]
        assert codes == [0, 0]
    assert tokens[0] == tokens[1]
    assert set(tokens[0]) == {"boss", "customer", "example", "credited"}
    assert stat.S_IMODE((secrets / "boss").stat().st_mode) == 0o600
