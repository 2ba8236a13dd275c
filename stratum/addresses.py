"""Addresses as people write them: ``HOST:PORT`` and ``stratum+tcp://HOST:PORT``."""

from __future__ import annotations

SCHEMES = {"stratum+tcp": False, "stratum+ssl": True}  # {scheme: TLS}


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT`` (``[::1]:3333`` for IPv6) as a pair. Raises ``ValueError`` with the remedy."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"address {text!r}: put an IPv6 host in brackets, such as [::1]:3333")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(
            f"address {text!r} must be HOST:PORT with a port of 0 to 65535, such as 127.0.0.1:3333"
        )
    return host, int(port)


def parse_url(url: str) -> tuple[str, int, bool]:
    """Host, port and whether to use TLS, of ``stratum+tcp://`` or ``stratum+ssl://HOST:PORT``.

    Raises ``ValueError`` with the remedy.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ValueError(
            f"pool {url!r} must be stratum+tcp://HOST:PORT, or stratum+ssl://HOST:PORT for TLS"
        )
    host, port = parse_address(rest.rstrip("/"))
    return host, port, SCHEMES[scheme]
