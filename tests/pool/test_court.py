"""The court: who is asked, and what counts as an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from pool import court as module
from pool.computed import Computed
from pool.config import ConfigError, parse_config
from pool.court import PART_SECONDS, Court
from pool.models import Models, RegisteredModel
from pool.store import Store
from pool.store.blockfile import write_block

ROWS = (0, 2)
DIGESTS = bytes(range(32))


class Bench:
    """A session that remembers what it was handed."""

    def __init__(self) -> None:
        self.handed: list[tuple[int, str]] = []
        self.taken_back: list[int] = []

    def hand(self, lease: int, model: str, _operation: str, _timeout: float, rows: Any) -> None:
        lengths, tokens = rows
        assert (lengths.tolist(), tokens.tolist()) == ([3, 1], [1, 2, 3, 6])
        self.handed.append((lease, model))

    def take_back(self, lease: int) -> None:
        self.taken_back.append(lease)


@pytest.fixture
def block(tmp_path: Path) -> Path:
    path = tmp_path / "block"
    lengths, works = np.array([3, 2, 1]), np.array([3, 2, 1])
    write_block(path, lengths, works, np.arange(3), np.array([1, 2, 3, 4, 5, 6]))
    return path


@pytest.fixture
def model(tmp_path: Path) -> RegisteredModel:
    store = Store.open(tmp_path / "pool", durable=False)
    found = Models(store).get("blake2b")
    store.close()
    assert found is not None
    return found


class Trial:
    """A court with one named rig, and a question that is asked of it."""

    def __init__(self, model: RegisteredModel, block: Path) -> None:
        self.court = Court(["house.judge"], ["blake2b"])
        self.bench = Bench()
        self.model, self.block = model, block
        self.answer: Computed | None = None

    def sit(self, session: int = 1) -> None:
        self.court.opened(session, "house.judge", self.bench)
        self.court.staged(session, self.model.digest)

    async def ask(self) -> None:
        self.answer = await self.court.compute(self.model, "digest", self.block, ROWS)

    def say(self, part: int, first: int, digests: bytes, *, final: bool, session: int = 1) -> bool:
        lease = self.bench.handed[-1][0]
        return self.court.answered(
            session, lease, part, first, final=final, computed=Computed(digests)
        )


@pytest.fixture
def trial(model: RegisteredModel, block: Path) -> Trial:
    return Trial(model, block)


async def test_an_answer_in_parts_is_put_together(trial: Trial, autojump_clock: MockClock) -> None:
    """By whoever has the model in place, and not before."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trial.ask)
        await trio.sleep(100)
        trial.court.opened(1, "house.judge", trial.bench)
        await trio.sleep(1)
        assert not trial.bench.handed
        trial.court.staged(1, trial.model.digest)
        await trio.sleep(1)
        assert trial.say(0, 0, DIGESTS[:16], final=False)
        assert trial.answer is None
        assert trial.say(1, 1, DIGESTS[16:], final=True)
    assert trial.answer == Computed(DIGESTS)
    assert trial.court.model_of(1, trial.bench.handed[0][0]) is None


@pytest.mark.parametrize(
    ("part", "first", "digests", "final"),
    [
        (1, 0, DIGESTS, True),
        (0, 1, DIGESTS, True),
        (0, 0, DIGESTS + DIGESTS[:16], True),
        (0, 0, DIGESTS, False),
        (0, 0, DIGESTS[:16], True),
    ],
)
async def test_what_does_not_fit_counts_for_nothing(
    trial: Trial, autojump_clock: MockClock, part: int, first: int, digests: bytes, *, final: bool
) -> None:
    """The rows are asked again, under another number."""
    async with trio.open_nursery() as nursery:
        trial.sit()
        nursery.start_soon(trial.ask)
        await trio.sleep(1)
        assert not trial.say(part, first, digests, final=final)
        await trio.sleep(5)
        assert len({lease for lease, _ in trial.bench.handed}) == 2
        assert trial.say(0, 0, DIGESTS, final=True)
    assert trial.answer == Computed(DIGESTS)


async def test_a_judge_who_leaves_or_is_silent_is_not_waited_for(
    trial: Trial, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        trial.sit()
        nursery.start_soon(trial.ask)
        await trio.sleep(1)
        trial.court.closed(1)
        trial.sit(2)
        await trio.sleep(2)
        assert len(trial.bench.handed) == 2
        await trio.sleep(PART_SECONDS + 5)
        assert trial.bench.taken_back == [lease for lease, _ in trial.bench.handed[:2]]
        assert trial.say(0, 0, DIGESTS, final=True, session=2)
    assert trial.answer == Computed(DIGESTS)


def test_only_who_is_named_judges(trial: Trial) -> None:
    """Another rig of the same account is as any."""
    assert trial.court.names("house.judge")
    assert not trial.court.names("house.other")
    assert trial.court.judges(trial.model)
    assert not Court([], []).judges(trial.model)
    assert not trial.court.answered(7, 1, 0, 0, final=True, computed=Computed(DIGESTS))


def test_settings_name_rigs_and_models_together() -> None:
    with pytest.raises(ConfigError, match=r"referee\.rigs names 'judge': write ACCOUNT\.RIG"):
        parse_config('[referee]\nrigs = ["judge"]\nmodels = ["m"]\n')
    for half in ('rigs = ["house.judge"]', 'models = ["m"]'):
        with pytest.raises(ConfigError, match="go together"):
            parse_config(f"[referee]\n{half}\n")
    assert module.FIRST_LEASE > 1 << 61
