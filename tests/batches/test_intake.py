"""Intake: what is wrong with a file, what is wrong with one request, and what is packed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from intake_cases import BLAKE, MAX_TOKENS, line, lines_of, rows_of, run_intake

from pool.batches import intake
from pool.batches.duplicates import IdIndex
from pool.batches.intake import IntakeReport
from pool.store.blockfile import BlockFile

GOOD = msgspec.json.encode(line(0, "w4")) + b"\n"


def found(report: IntakeReport) -> list[tuple[str, int | None, str | None]]:
    """(code, line, param) of every error."""
    return [(error.code, error.line, error.param) for error in report.errors]


@pytest.mark.parametrize(
    ("text", "code", "param"),
    [
        (b"{", "invalid_json_line", None),
        (b"[1]", "invalid_json_line", None),
        (b'"x"', "invalid_json_line", None),
        (b"\xff\xfe", "invalid_json_line", None),
        (b'{"custom_id":"\xff"}', "invalid_json_line", None),
        (b"[" * 100_000, "invalid_json_line", None),
        (b'{"custom_id":1}', "invalid_json_line", "custom_id"),
        (b'{"custom_id":""}', "invalid_json_line", "custom_id"),
        (b'{"custom_id":"a"}', "invalid_json_line", "method"),
        (b'{"custom_id":"a","method":"GET"}', "invalid_json_line", "method"),
        (b'{"custom_id":"a","method":"POST"}', "url_mismatch", "url"),
        (b'{"custom_id":"a","method":"POST","url":"/v1/digests"}', "url_mismatch", "url"),
        (
            b'{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":[]}',
            "invalid_json_line",
            "body",
        ),
        (
            b'{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{}}',
            "model_mismatch",
            "body.model",
        ),
        (
            b'{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"b"}}',
            "model_mismatch",
            "body.model",
        ),
    ],
)
def test_a_malformed_line_fails_the_batch_with_its_number(
    tmp_path: Path, text: bytes, code: str, param: str | None
) -> None:
    """The error names line and field, and nothing is packed."""
    report = run_intake(tmp_path, GOOD + b"\n" + text + b"\n")

    assert found(report) == [(code, 3, param)]
    assert report.blocks == ()


@pytest.mark.parametrize("data", [b"", b"\n", b"\n \r\n\t\n", b"\xef\xbb\xbf"])
def test_a_file_without_requests_is_an_empty_file(tmp_path: Path, data: bytes) -> None:
    """Blank lines are none."""
    assert found(run_intake(tmp_path, data)) == [("empty_file", None, None)]


def test_an_unknown_model_and_one_of_another_endpoint_are_named(tmp_path: Path) -> None:
    """Both fail the batch: no line of it could be served."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    unknown = run_intake(tmp_path / "a", [line(0, "w4", model="none")])
    other = run_intake(tmp_path / "b", [line(0, [1], model="blake2b")])

    assert found(unknown) == [("model_not_found", 1, "body.model")]
    assert found(other) == [("model_mismatch", 1, "body.model")]


def test_too_many_requests_are_found_without_reading_on(tmp_path: Path) -> None:
    """The line over the limit is named."""
    lines = b"".join(msgspec.json.encode(line(n, "w4")) + b"\n" for n in range(5))
    report = run_intake(tmp_path, lines + b"{\n", max_lines=3)

    assert found(report) == [("too_many_tasks", 4, None)]


def test_at_most_a_hundred_errors_are_told(tmp_path: Path) -> None:
    """In the order of their lines."""
    report = run_intake(tmp_path, b"{\n" * 500)

    assert [error.line for error in report.errors] == list(range(1, 101))


def test_every_repeated_id_is_told_with_its_first_line(tmp_path: Path) -> None:
    """Also beside other errors, and before a wrong line as well as after it."""
    lines = [line(n, "w4") for n in (0, 1, 0, 2, 1, 1)]
    data = b"".join(msgspec.json.encode(entry) + b"\n" for entry in lines)
    report = run_intake(tmp_path, data + b"{\n" + data[: data.index(b"\n") + 1])

    assert found(report) == [
        ("duplicate_custom_id", 3, "custom_id"),
        ("duplicate_custom_id", 5, "custom_id"),
        ("duplicate_custom_id", 6, "custom_id"),
        ("invalid_json_line", 7, None),
        ("duplicate_custom_id", 8, "custom_id"),
    ]
    assert "line 1 already" in report.errors[0].message


def test_ids_of_one_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one-byte hashes nearly all of 2,000 ids collide, and none is a repetition."""
    monkeypatch.setattr(intake, "IdIndex", lambda path: IdIndex(path, hash_bytes=1))
    report = run_intake(tmp_path, [line(n, "w4") for n in range(2000)])

    assert report.errors == ()
    assert report.rows == 2000


def test_repetitions_are_found_range_by_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little of the hashes is in memory at a time."""
    monkeypatch.setattr("pool.batches.duplicates._RANGE", 64)
    monkeypatch.setattr("pool.batches.duplicates._FLUSH", 16)
    monkeypatch.setattr("pool.batches.duplicates._CANDIDATES", 2)
    ids = [f"id-{n}" for n in range(1000)] + ["id-7", "id-999", "id-500", "id-7"]
    index = IdIndex(tmp_path / "ids")
    for name in ids:
        index.add(name)

    repeated = index.repeated(lambda: iter(enumerate(ids, 1)), 100)

    index.close()
    assert repeated == [
        (1001, 8, "id-7"),
        (1002, 1000, "id-999"),
        (1003, 501, "id-500"),
        (1004, 8, "id-7"),
    ]
    assert not (tmp_path / "ids").exists()


_MEMORY = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from intake_cases import run_intake
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
folder = Path(sys.argv[1])
(folder / "warm").mkdir()
from intake_cases import line
run_intake(folder / "warm", [line(0, "w4")])
before = peak()
source = folder / "huge"
with source.open("wb") as file:
    file.write(b'{"custom_id":"')
    for _ in range(100):
        file.write(b"x" * (1 << 20))
    file.write(b'"}\\n{\\n')
from pool.batches.intake import numbered_lines
with source.open("rb") as file:
    lines = [(number, text and len(text)) for number, text in numbered_lines(file, 8 << 20)]
print(lines, (peak() - before) // 1024)
"""


def test_a_line_of_100_mb_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    """It is skipped in pieces; the lines behind it keep their numbers."""
    run = subprocess.run(
        [sys.executable, "-c", _MEMORY, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines, grown = run.stdout.rsplit(" ", 1)

    assert lines == "[(1, None), (2, 2)]"
    assert int(grown) < 32


def test_a_long_line_fails_the_batch_with_the_limit(tmp_path: Path) -> None:
    """At exactly the limit it passes."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    size = len(GOOD.rstrip())

    assert run_intake(tmp_path / "a", GOOD, max_line_bytes=size).rows == 1
    report = run_intake(tmp_path / "b", GOOD, max_line_bytes=size - 1)
    assert found(report) == [("invalid_json_line", 1, None)]
    assert f"longer than {size - 1} bytes" in report.errors[0].message


@pytest.mark.parametrize(
    ("given", "more", "param", "code"),
    [
        ("", {}, "input", "invalid_value"),
        ([], {}, "input", "invalid_value"),
        (None, {}, "input", "invalid_value"),
        (7, {}, "input", "invalid_value"),
        ({"a": 1}, {}, "input", "invalid_value"),
        (["w4", ""], {}, "input", "invalid_value"),
        (["w4", 5], {}, "input", "invalid_value"),
        ([1, "w4"], {}, "input", "invalid_value"),
        ([1.5], {}, "input", "invalid_value"),
        ([True], {}, "input", "invalid_value"),
        ([[1], []], {}, "input", "invalid_value"),
        ([[1], ["a"]], {}, "input", "invalid_value"),
        ([[[1]]], {}, "input", "invalid_value"),
        (["w4"] * 2049, {}, "input", "invalid_value"),
        ([40], {}, "input", "token_out_of_range"),
        ([-1], {}, "input", "token_out_of_range"),
        ([4] * (MAX_TOKENS + 1), {}, "input", "context_length_exceeded"),
        ("w4 " * (MAX_TOKENS - 1), {}, "input", "context_length_exceeded"),
        ("w4", {"dimensions": 3}, "dimensions", "invalid_value"),
        ("w4", {"dimensions": True}, "dimensions", "invalid_value"),
        ("w4", {"encoding_format": "hex"}, "encoding_format", "invalid_value"),
        ("w4", {"encoding_format": 1}, "encoding_format", "invalid_value"),
        ("w4", {"truncate": "yes"}, "truncate", "invalid_value"),
        ("w4", {"user": 3}, "user", "invalid_value"),
        ("w4", {"temperature": 1}, "temperature", "unknown_parameter"),
    ],
)
def test_a_request_that_cannot_be_served_fails_alone(
    tmp_path: Path, given: object, more: dict, param: str, code: str
) -> None:
    """Its neighbours are packed as if it were not there."""
    report = run_intake(tmp_path, [line(0, "w4"), line(1, given, **more), line(2, "w5")])

    first, refused, last = lines_of(report)
    assert (report.lines, report.refused, report.rows) == (3, 1, 2)
    assert (first.rows, refused.rows, last.rows) == (1, 0, 1)
    refusal = refused.refused()
    assert refusal is not None
    assert (refusal.param, refusal.code) == (param, code)
    assert refusal.body()["error"]["type"] == "invalid_request_error"
    assert rows_of(report) == [[2, 4, 3], [2, 5, 3]]


def test_every_shape_of_input_is_tokenised(tmp_path: Path) -> None:
    """The tokenizer's own padding and cutting are switched off; ids are taken as they are."""
    report = run_intake(
        tmp_path,
        [
            line(0, "w4 w5 w6 w7"),
            line(1, ["w8", "nonsense"]),
            line(2, [9, 10]),
            line(3, [[11], [12, 13]], encoding_format="base64"),
            line(4, "w4 " * 50, truncate=True),
            line(5, [14] * 50, truncate=True),
            line(6, "w" * 6, dimensions=4, encoding_format="float", user="me"),
            line(7, "w4", encoding_format=None, dimensions=None),
        ],
    )

    assert rows_of(report) == [
        [2, 4, 5, 6, 7, 3],
        [2, 8, 3],
        [2, 1, 3],
        [9, 10],
        [11],
        [12, 13],
        [2, *[4] * (MAX_TOKENS - 2), 3],
        [14] * MAX_TOKENS,
        [2, 1, 3],
        [2, 4, 3],
    ]
    lines = lines_of(report)
    assert [entry.rows for entry in lines] == [1, 2, 1, 2, 1, 1, 1, 1]
    assert [entry.tokens for entry in lines] == [6, 6, 2, 3, 8, 8, 3, 3]
    assert [entry.base64 for entry in lines] == [False] * 3 + [True] + [False] * 4
    assert report.tokens == sum(entry.tokens for entry in lines)
    assert report.work == 3 * report.tokens


def test_digests_take_token_ids_only(tmp_path: Path) -> None:
    """Of 32 bits; the work is 1 a row."""
    url = "/v1/digests"
    report = run_intake(
        tmp_path,
        [
            line(0, [0, (1 << 32) - 1], url),
            line(1, [[1], [2]], url),
            line(2, "text", url),
            line(3, [1 << 32], url),
            line(4, [1], url, encoding_format="float"),
        ],
        endpoint=url,
    )

    assert rows_of(report) == [[0, (1 << 32) - 1], [1], [2]]
    assert [e.refusal and e.refusal[2] for e in lines_of(report)] == [
        None,
        None,
        "invalid_value",
        "token_out_of_range",
        "unknown_parameter",
    ]
    assert report.work == 3
    assert BLAKE.max_tokens == 8192


def test_a_batch_whose_every_line_is_refused_has_no_blocks(tmp_path: Path) -> None:
    """It is no failure of the batch."""
    report = run_intake(tmp_path, [line(n, "") for n in range(3)])

    assert (report.rows, report.work, report.blocks) == (0, 0, ())
    assert report.refused == 3
    assert report.model == "tiny"


@pytest.mark.parametrize(("rows", "blocks"), [(1, 1), (255, 1), (256, 4), (1000, 4)])
def test_a_small_job_is_cut_into_a_few_blocks(tmp_path: Path, rows: int, blocks: int) -> None:
    """Of about the same number of rows, in the customer's order."""
    report = run_intake(tmp_path, [line(n, [4 + n % 36] * (1 + n % 8)) for n in range(rows)])

    assert len(report.blocks) == blocks
    assert sum(block.rows for block in report.blocks) == rows
    assert max(b.rows for b in report.blocks) - min(b.rows for b in report.blocks) <= 1
    assert rows_of(report) == [[4 + n % 36] * (1 + n % 8) for n in range(rows)]


def test_blocks_keep_their_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of rows, of input bytes and of result bytes; one row always fits."""
    monkeypatch.setattr("pool.batches.packing.MAX_BLOCK_INPUT_BYTES", 64)
    monkeypatch.setattr("pool.batches.packing.MAX_BLOCK_RESULT_BYTES", 16 * 5)
    lengths = [8, 8, 1, 8, 1, 1, 1, 1, 1, 1, 8, 8]
    report = run_intake(tmp_path, [line(n, [5] * k) for n, k in enumerate(lengths)])

    assert [block.rows for block in report.blocks] == [2, 5, 4, 1]
    for packed in report.blocks:
        with BlockFile(packed.path) as block:
            assert np.all(np.diff(block.lengths.astype(int)) <= 0)
            assert block.rows <= 5
            assert len(block.tokens) * 4 <= 64
            assert block.works.tolist() == [3 * n for n in block.lengths.tolist()]
            assert packed.work == block.work == int(block.works.sum())
    assert rows_of(report) == [[5] * k for k in lengths]


def test_texts_are_tokenised_the_same_in_any_company(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many go through the tokenizer at once changes nothing."""
    lines = [line(n, [f"w{4 + n % 30}", "w5 " * (1 + n % 6)]) for n in range(50)]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    together = run_intake(tmp_path / "a", lines)
    monkeypatch.setattr(intake, "_PENDING_INPUTS", 1)
    monkeypatch.setattr("pool.batches.tokenize._PORTION", 1)
    apart = run_intake(tmp_path / "b", lines)

    assert rows_of(together) == rows_of(apart)
    assert lines_of(together) == lines_of(apart)


def test_the_same_file_is_packed_into_the_same_bytes(tmp_path: Path) -> None:
    """A batch taken in again after a stop names the same blocks."""
    lines = [line(n, f"w{4 + n % 30} w5") for n in range(300)]
    contents = []
    for name in "ab":
        (tmp_path / name).mkdir()
        report = run_intake(tmp_path / name, lines)
        assert report.lines_path is not None
        paths = [block.path for block in report.blocks] + [report.lines_path]
        contents.append([path.read_bytes() for path in paths])

    assert contents[0] == contents[1]


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    """Some editors write one."""
    assert run_intake(tmp_path, b"\xef\xbb\xbf" + GOOD).rows == 1


def test_the_last_line_needs_no_end(tmp_path: Path) -> None:
    """Nor do line ends have to be bare."""
    assert run_intake(tmp_path, GOOD.replace(b"\n", b"\r\n").rstrip()).rows == 1
