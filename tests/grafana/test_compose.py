"""compose.yaml and what it mounts fit together; Alertmanager's own tool reads its settings."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from asked import GRAFANA, ROOT

from pool.config import parse_config

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def mounts(service: str) -> dict[str, str]:
    """{where it is in the container: what it is} of a service."""
    return {
        parts[1]: parts[0]
        for parts in (one.split(":") for one in SERVICES[service].get("volumes", ()))
    }


def test_all_five_are_there_and_every_image_is_pinned() -> None:
    assert set(SERVICES) == {"pool", "rig", "prometheus", "alertmanager", "grafana"}
    for name, service in SERVICES.items():
        assert "build" in service or re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name


def test_what_is_mounted_exists() -> None:
    for service in SERVICES:
        for source in mounts(service).values():
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
            else:
                assert source in COMPOSE["volumes"], source


def test_hosts_and_ports_that_settings_name_are_services() -> None:
    """Ports are those that pool and rig listen on."""
    config = parse_config((ROOT / "compose" / "pool.toml").read_text())
    ports = {
        "pool": {config.http.listen.rpartition(":")[2], config.stratum.listen.rpartition(":")[2]},
        "rig": {"9110"},
        "prometheus": {"9090"},
        "alertmanager": {"9093"},
    }
    texts = [
        GRAFANA / "prometheus" / "prometheus.yml",
        GRAFANA / "alertmanager" / "alertmanager.yml",
        GRAFANA / "provisioning" / "datasources" / "prometheus.yml",
        ROOT / "compose" / "start-rig.sh",
    ]
    named = set()
    for file in texts:
        for host, port in re.findall(r"\b([a-z]+):(\d{4})\b", file.read_text()):
            assert port in ports[host], (file.name, host, port)
            named.add(host)
    assert named == set(ports)


def test_paths_inside_are_where_settings_look() -> None:
    config = parse_config((ROOT / "compose" / "pool.toml").read_text())
    pool = mounts("pool")
    assert "/etc/inferpool/pool.toml" in pool
    assert config.data in pool
    secret = config.notifications.alerts_secret_file
    assert secret.rpartition("/")[0] in pool
    alertmanager = (GRAFANA / "alertmanager" / "alertmanager.yml").read_text()
    assert f"credentials_file: {secret}" in alertmanager
    assert secret.rpartition("/")[0] in mounts("alertmanager")
    provider = yaml.safe_load(
        (GRAFANA / "provisioning" / "dashboards" / "inferpool.yml").read_text()
    )
    folder = provider["providers"][0]["options"]["path"]
    assert mounts("grafana")[folder] == "./grafana/dashboards"
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / "grafana" / "dashboards" / home.rpartition("/")[2]).exists()


def test_nothing_is_open_to_the_network() -> None:
    for name, service in SERVICES.items():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), (name, port)


def test_the_image_holds_what_it_is_built_from() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    allowed = (ROOT / ".dockerignore").read_text()
    for line in re.findall(r"^COPY (.+)$", dockerfile, re.M):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in allowed or f"!{source.rpartition('/')[0]}/*.sh" in allowed


@pytest.mark.skipif(
    shutil.which("amtool") is None,
    reason="amtool is not installed: .ci/system-programs (Debian's prometheus-alertmanager)",
)
def test_amtool_is_content() -> None:
    file = GRAFANA / "alertmanager" / "alertmanager.yml"
    done = subprocess.run(["amtool", "check-config", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
