"""Output: answers in the customer's order, exact to the byte, in bounded memory."""

from __future__ import annotations

import base64
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from intake_cases import line, run_intake

from pool.batches.answers import AnswerShape
from pool.batches.floattext import shortest_decimals
from pool.batches.intake import IntakeReport
from pool.batches.output import OutputBlock, OutputError, OutputJob, OutputReport, write_output
from pool.store.blockfile import BlockFile
from pool.store.resultlog import Position, ResultLog
from pool.store.results import ResultRun


def value_of(tokens: np.ndarray) -> np.ndarray:
    """A row's result that tells rows apart: float32 [4]."""
    return np.array([tokens[0], len(tokens), tokens.sum() / 7, -0.1], dtype="<f4")


def compute(
    folder: Path,
    report: IntakeReport,
    *,
    part_rows: int = 3,
    failed: tuple[int, ...] = (),
    leave_out: tuple[int, ...] = (),
) -> tuple[OutputBlock, ...]:
    """Write every block's results to a log in parts of ``part_rows``.

    A row whose first token is in ``failed`` fails, one whose first token is in ``leave_out`` has
    no result.
    """
    log = ResultLog(folder / "log", durable=False)
    log.claim(Position(0, 0))
    blocks = []
    for packed in report.blocks:
        runs = []
        with BlockFile(packed.path) as block:
            for first in range(0, block.rows, part_rows):
                tokens = [
                    block.take(row, row + 1)[1]
                    for row in range(first, min(block.rows, first + part_rows))
                ]
                bad = [i for i, row in enumerate(tokens) if row[0] in failed]
                values = [
                    bytes(16) if i in bad else value_of(row).tobytes()
                    for i, row in enumerate(tokens)
                ]
                record = b"".join(values) + np.array(bad, dtype="<u4").tobytes()
                (position,) = log.append([record])
                for i, row in enumerate(tokens):
                    if row[0] in leave_out:
                        continue
                    runs.append(
                        ResultRun(
                            start=first + i,
                            stop=first + i + 1,
                            path=log.path(position.log),
                            offset=position.offset,
                            size=len(record),
                            part_rows=len(tokens),
                            first_row=i,
                        )
                    )
        blocks.append(OutputBlock(path=packed.path, runs=tuple(runs)))
    log.close()
    return tuple(blocks)


def deliver(
    folder: Path,
    report: IntakeReport,
    blocks: tuple[OutputBlock, ...],
    *,
    state: str = "completed",
    name: str = "",
) -> tuple[OutputReport, bytes, bytes]:
    """Write the files: the report, the output, the errors."""
    assert report.lines_path is not None
    job = OutputJob(
        lines_path=report.lines_path,
        blocks=blocks,
        row_bytes=16,
        answers=AnswerShape(endpoint="/v1/embeddings", model="tiny"),
        seed="0" * 64,
        state=state,
        output_path=folder / f"output{name}",
        error_path=folder / f"errors{name}",
    )
    done = write_output(job)
    return done, job.output_path.read_bytes(), job.error_path.read_bytes()


LINES = [
    line(0, [9, 9]),
    line(1, [[4], [5, 5, 5], [6, 6]]),
    line(2, ""),
    line(3, [7], encoding_format="base64"),
    line(4, [[8], [10]]),
    line(5, [11, 11, 11]),
]


def test_answers_come_in_the_customers_order_with_their_own_rows(tmp_path: Path) -> None:
    """Rows were sorted by length inside the block; nobody sees it."""
    report = run_intake(tmp_path, LINES)
    done, output, errors = deliver(tmp_path, report, compute(tmp_path, report))

    answers = [msgspec.json.decode(text) for text in output.splitlines()]
    assert [answer["custom_id"] for answer in answers] == ["c0", "c1", "c3", "c4", "c5"]
    expected = [[9, 9]], [[4], [5, 5, 5], [6, 6]], [[7]], [[8], [10]], [[11, 11, 11]]
    for answer, rows in zip(answers, expected, strict=True):
        assert answer["error"] is None
        assert answer["response"]["status_code"] == 200
        body = answer["response"]["body"]
        assert body["object"] == "list"
        assert body["model"] == "tiny"
        tokens = sum(map(len, rows))
        assert body["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
        for index, (item, row) in enumerate(zip(body["data"], rows, strict=True)):
            assert (item["object"], item["index"]) == ("embedding", index)
            got = item["embedding"]
            if answer["custom_id"] == "c3":
                got = np.frombuffer(base64.b64decode(got), dtype="<f4")
            assert np.array_equal(np.array(got, dtype=np.float32), value_of(np.array(row)))
    assert (done.completed, done.failed, done.tokens) == (5, 1, 14)
    assert done.output is not None
    assert (done.output.bytes, done.output.sha256) == (len(output), sha256(output).hexdigest())
    refused = msgspec.json.decode(errors)
    assert refused["response"]["status_code"] == 400
    assert done.errors is not None
    assert done.errors.bytes == len(errors)


def test_the_exact_bytes_of_a_line(tmp_path: Path) -> None:
    """What customers' tools may have learned to read stays as it is."""
    report = run_intake(tmp_path, [line(0, [9, 9])])
    _, output, _ = deliver(tmp_path, report, compute(tmp_path, report))

    assert output == (
        b'{"id":"batch_req_0f63bbc0c33d6a5611de2c06068e7ffe","custom_id":"c0","response":'
        b'{"status_code":200,"request_id":"req_0f63bbc0c33d6a5611de2c06068e7ffe","body":'
        b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":'
        b'[9.0,2.0,2.5714285,-0.1]}],"model":"tiny","usage":'
        b'{"prompt_tokens":2,"total_tokens":2}}},"error":null}\n'
    )


@pytest.mark.parametrize("part_rows", [1, 2, 1000])
def test_the_same_input_gives_the_same_bytes_however_it_was_cut(
    tmp_path: Path, part_rows: int
) -> None:
    """Parts, blocks and chunks leave no trace."""
    lines = [line(n, [[4 + n % 36] * (1 + n % 8), [5]]) for n in range(200)]
    results = []
    for name, rows in (("a", part_rows), ("b", 7)):
        folder = tmp_path / name
        folder.mkdir()
        report = run_intake(folder, lines)
        results.append(deliver(folder, report, compute(folder, report, part_rows=rows))[1:])

    assert results[0] == results[1]


def test_a_row_that_failed_fails_its_line_alone(tmp_path: Path) -> None:
    """With a status of the server's, and a code that says why."""
    report = run_intake(tmp_path, LINES)
    done, output, errors = deliver(tmp_path, report, compute(tmp_path, report, failed=(5, 7)))

    assert [msgspec.json.decode(t)["custom_id"] for t in output.splitlines()] == ["c0", "c4", "c5"]
    entries = [msgspec.json.decode(text) for text in errors.splitlines()]
    assert [entry["custom_id"] for entry in entries] == ["c1", "c2", "c3"]
    assert entries[0]["response"]["status_code"] == 500
    assert entries[0]["response"]["body"]["error"]["code"] == "non_finite_result"
    assert (done.completed, done.failed) == (3, 3)


@pytest.mark.parametrize(
    ("state", "code"), [("cancelled", "batch_cancelled"), ("expired", "batch_expired")]
)
def test_a_batch_that_was_stopped_delivers_what_is_whole(
    tmp_path: Path, state: str, code: str
) -> None:
    """A line with one row missing is not done; a refused line stays refused."""
    report = run_intake(tmp_path, LINES)
    blocks = compute(tmp_path, report, leave_out=(6, 11))
    done, output, errors = deliver(tmp_path, report, blocks, state=state)

    assert [msgspec.json.decode(t)["custom_id"] for t in output.splitlines()] == ["c0", "c3", "c4"]
    entries = [msgspec.json.decode(text) for text in errors.splitlines()]
    assert [entry["custom_id"] for entry in entries] == ["c1", "c2", "c5"]
    assert entries[0]["response"] is None
    assert entries[0]["error"]["code"] == code
    assert entries[1]["response"]["status_code"] == 400
    assert (done.completed, done.failed) == (3, 3)


def test_a_completed_batch_without_all_its_rows_is_a_fault(tmp_path: Path) -> None:
    """It is never delivered as if it were whole."""
    report = run_intake(tmp_path, LINES)

    with pytest.raises(OutputError):
        deliver(tmp_path, report, compute(tmp_path, report, leave_out=(6,)))
    with pytest.raises(OutputError):
        deliver(tmp_path, report, ())
    with pytest.raises(OutputError):
        deliver(tmp_path, report, compute(tmp_path, report) * 2)


def test_files_that_would_be_empty_are_none(tmp_path: Path) -> None:
    """No output when every line failed, no errors when none did."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    bad = run_intake(tmp_path / "a", [line(0, "")])
    good = run_intake(tmp_path / "b", [line(0, [4])])

    assert deliver(tmp_path / "a", bad, ())[0].output is None
    assert deliver(tmp_path / "b", good, compute(tmp_path / "b", good))[0].errors is None


@given(
    hnp.arrays(
        np.float32,
        st.integers(1, 64),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_numbers_are_the_shortest_that_read_back_the_same(values: np.ndarray) -> None:
    """As NumPy prints a float32, over its whole range."""
    decimals = shortest_decimals(values)

    assert decimals.tolist() == [float(str(value)) for value in values]
    text = msgspec.json.encode(decimals.tolist())
    back = np.array(msgspec.json.decode(text), dtype=np.float32)
    assert back.tobytes() == values.tobytes()


@pytest.mark.parametrize("scale", [1e-6, 0.05, 1.0, 3e4])
def test_ordinary_embeddings_are_written_exactly(scale: float) -> None:
    """A hundred thousand numbers of the size that models give, and the edges between sizes."""
    random = np.random.default_rng(7)
    values = (random.normal(size=100_000) * scale).astype(np.float32)
    edges = np.concatenate([2.0 ** np.arange(-44, 20), 10.0 ** np.arange(-13, 6)])
    edges = edges.astype(np.float32)
    values = np.concatenate([values, edges, np.nextafter(edges, np.float32(0)), -edges])

    assert shortest_decimals(values).tolist() == [float(str(value)) for value in values]
