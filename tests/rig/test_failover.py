"""Which pool is tried next and after how long; and what a rig may be told at all."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from gpu_worker.config import PoolAddress, RigConfig, check_user, default_cache, parse_pool
from gpu_worker.failover import PATIENCE, Failover

FIRST, SECOND = PoolAddress("one.example", 3333), PoolAddress("two.example", 3333)


def failover(*pools: PoolAddress) -> Failover:
    config = RigConfig(pools=pools or (FIRST,), user="alice.rig1", token="secret")
    return Failover(config, Random(1))


def test_the_wait_doubles_from_one_second_to_a_minute_with_jitter() -> None:
    """Each wait lies between half of the step and the step; it never exceeds a minute."""
    choice = failover()

    for failure in range(2000):
        choice.failed(now=0.0)
        step = min(60.0, 2.0 ** min(failure, 10))
        assert step / 2 <= choice.wait(now=0.0) <= step


def test_two_rigs_do_not_wait_the_same_time() -> None:
    """The jitter differs from rig to rig."""
    config = RigConfig(pools=(FIRST,), user="alice.rig1", token="secret")
    waits = set()
    for seed in range(20):
        choice = Failover(config, Random(seed))
        choice.failed(now=0.0)
        waits.add(choice.wait(now=0.0))

    assert len(waits) == 20


def test_the_backoff_starts_over_after_a_good_session() -> None:
    """The next try comes within a second, not at once: all rigs of a pool lose it together."""
    choice = failover()
    for _ in range(9):
        choice.failed(now=0.0)

    choice.succeeded(now=0.0)

    assert 0.5 <= choice.wait(now=0.0) <= 1.0
    choice.failed(now=0.0)
    assert choice.wait(now=0.0) <= 1.0


def test_the_next_pool_is_tried_at_once_after_three_failures() -> None:
    """A rig with two pools does not sit out the first one's backoff."""
    choice = failover(FIRST, SECOND)
    for _ in range(PATIENCE):
        assert choice.current == FIRST
        choice.failed(now=0.0)

    assert choice.current == SECOND
    assert choice.wait(now=0.0) == 0.0
    for _ in range(PATIENCE):
        choice.failed(now=0.0)
    assert choice.current == FIRST
    assert choice.wait(now=0.0) > 0.0, "the first pool's own wait still stands"


def test_a_refused_name_waits_a_minute_at_least_and_tries_the_others() -> None:
    """Bad tokens are retried slowly; another pool may know the rig."""
    alone, two = failover(), failover(FIRST, SECOND)
    alone.denied(now=0.0)
    two.denied(now=0.0)

    assert alone.wait(now=0.0) >= 60.0
    assert two.current == SECOND
    assert two.wait(now=0.0) == 0.0
    two.denied(now=0.0)
    assert two.wait(now=0.0) >= 60.0


def test_the_preferred_pool_is_returned_to() -> None:
    """Once the first pool is back, it is the current one, without a wait."""
    choice = failover(FIRST, SECOND)
    choice.denied(now=0.0)

    choice.return_to_first()

    assert choice.on_first
    assert choice.wait(now=0.0) == 0.0


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("stratum+tcp://pool.example:4444", PoolAddress("pool.example", 4444)),
        ("stratum+ssl://pool.example:1/", PoolAddress("pool.example", 1, tls=True)),
        ("stratum+tcp://[::1]:3333", PoolAddress("::1", 3333)),
    ],
)
def test_pool_urls(url: str, address: PoolAddress) -> None:
    """Scheme, host and port; and back into a URL."""
    assert parse_pool(url) == address
    assert parse_pool(str(address)) == address


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("pool.example:3333", r"stratum\+tcp"),
        ("http://pool.example:3333", r"stratum\+tcp"),
        ("stratum+tcp://pool.example", "HOST:PORT"),
        ("stratum+tcp://:3333", "HOST:PORT"),
        ("stratum+tcp://pool.example:0", "no valid port"),
        ("stratum+tcp://pool.example:99999", "HOST:PORT"),
        ("stratum+tcp://pool.example:abc", "HOST:PORT"),
        ("stratum+tcp://pool.example:3333/x", "HOST:PORT"),
        ("stratum+tcp://bob:secret@pool.example:3333", "--token-file"),
    ],
)
def test_a_wrong_pool_url_says_what_is_wrong(url: str, words: str) -> None:
    """The text names the remedy, and repeats no password."""
    with pytest.raises(ValueError, match=words) as refused:
        parse_pool(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("user", ["alice.rig1", "a.b", "0-_.9", "a" * 32 + "." + "b" * 32])
def test_a_user_is_account_dot_rig(user: str) -> None:
    """Both names are lower-case words."""
    assert check_user(user) == user


@pytest.mark.parametrize(
    "user",
    ["alice", "a.b.c", ".rig", "alice.", "Alice.rig", "-a.b", "a b.c", "a" * 33 + ".b", "é.b"],
)
def test_a_wrong_user_says_what_is_wrong(user: str) -> None:
    """The text names the user."""
    with pytest.raises(ValueError, match="user"):
        check_user(user)


def test_the_token_is_not_shown() -> None:
    """A configuration may be logged without giving the token away."""
    config = RigConfig(pools=(FIRST,), user="alice.rig1", token="hunter2")

    assert "hunter2" not in repr(config)


def test_the_cache_follows_the_xdg_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set, empty or (against the specification) relative."""
    monkeypatch.setenv("HOME", "/home/alice")
    for value, folder in (
        ("/big/cache", "/big/cache/inferpool"),
        ("", "/home/alice/.cache/inferpool"),
        ("relative", "/home/alice/.cache/inferpool"),
    ):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert default_cache() == Path(folder)
