"""Addresses and URLs as people write them, with errors that name the remedy."""

from __future__ import annotations

import pytest
import trio.testing

from stratum.addresses import parse_address, parse_url
from stratum.client import RigConnection


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:3333", "127.0.0.1", 3333),
        ("localhost:0", "localhost", 0),
        ("[::1]:65535", "::1", 65535),
    ],
)
def test_good_addresses(text: str, host: str, port: int) -> None:
    assert parse_address(text) == (host, port)


@pytest.mark.parametrize(
    "text", ["", "3333", ":3333", "host", "host:", "host:x", "host:65536", "host:-1", "host:٣"]
)
def test_bad_addresses_say_what_is_wanted(text: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT.*127\.0\.0\.1:3333"):
        parse_address(text)


def test_a_bare_ipv6_host_needs_brackets() -> None:
    with pytest.raises(ValueError, match="brackets"):
        parse_address("::1:3333")


def test_pool_urls() -> None:
    assert parse_url("stratum+tcp://pool.example:3333") == ("pool.example", 3333, False)
    assert parse_url("stratum+ssl://[::1]:3334/") == ("::1", 3334, True)
    for wrong in ("pool.example:3333", "http://pool.example:80", "stratum+tcp://pool.example"):
        with pytest.raises(ValueError, match="HOST:PORT"):
            parse_url(wrong)


@pytest.mark.parametrize(
    ("host", "url", "whole"),
    [
        ("pool.example", ":8080/f/1", "http://pool.example:8080/f/1"),
        ("::1", ":8080/f/1", "http://[::1]:8080/f/1"),
        ("pool.example", "https://cdn.example/f/1", "https://cdn.example/f/1"),
    ],
)
async def test_file_addresses_on_the_dialled_host(host: str, url: str, whole: str) -> None:
    stream, _ = trio.testing.memory_stream_pair()
    assert RigConnection(stream, host=host).whole_url(url) == whole
