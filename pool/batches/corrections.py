"""Where in a customer's file the rows of a block came from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pool.batches.lines import read_lines
from pool.store.blockfile import BlockFile


@dataclass(frozen=True, slots=True)
class Place:
    """A row of a batch: its line (from 1), that line's ``custom_id``, its number in the line."""

    line: int
    custom_id: str
    index: int


def places_of(
    lines_path: Path, blocks: Sequence[tuple[Path, int]], wanted: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], Place]:
    """Find rows (block, row of it) in the batch; ``blocks``: (path, rows) of each, in order.

    Reads the lines up to the last row that is wanted. Raises ``OSError`` when a file is gone.
    """
    starts = [0]
    for _, rows in blocks:
        starts.append(starts[-1] + rows)
    by_position: dict[int, tuple[int, int]] = {}
    for number, row in wanted:
        with BlockFile(blocks[number][0]) as block:
            by_position[starts[number] + int(block.order[row])] = (number, row)
    found: dict[tuple[int, int], Place] = {}
    positions = sorted(by_position)
    begin = 0
    for line in read_lines(lines_path):
        while len(found) < len(positions) and positions[len(found)] < begin + line.rows:
            position = positions[len(found)]
            found[by_position[position]] = Place(line.number, line.custom_id, position - begin)
        if len(found) == len(positions):
            break
        begin += line.rows
    return found
