"""``inferpool submit``: up, wait, down; and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from pool.commands.submit import submit

LINE = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/embeddings",
    "body": {"model": "minilm", "input": "x"},
}


def batch(status, **fields):
    return {"id": "batch_1", "status": status, **fields}


DONE = batch(
    "completed",
    request_counts={"total": 2, "completed": 1, "failed": 1},
    output_file_id="file-out",
    error_file_id="file-err",
)


@pytest.fixture
def texts(tmp_path):
    file = tmp_path / "texts.jsonl"
    file.write_text(json.dumps(LINE) + '\n{"input": "hello"}\n')
    return file


@pytest.fixture
def run(key_file):
    def invoke(*arguments, key=key_file):
        return CliRunner().invoke(submit, [*map(str, arguments), "--key-file", str(key)])

    return invoke


def test_a_batch_goes_up_and_its_output_and_errors_come_down(scripted_pool, run, texts, tmp_path):
    """The whole way, for a file that mixes short and full lines."""
    scripted_pool.batches = [
        batch("validating"),
        batch(
            "in_progress",
            request_counts={"total": 2, "completed": 1, "failed": 0},
            inferpool={"rate": 1234.5, "eta": 61.0},
        ),
        DONE,
    ]
    scripted_pool.files = {"file-out": b'{"custom_id":"a"}\n', "file-err": b'{"custom_id":"b"}\n'}
    out = tmp_path / "out.jsonl"

    result = run(texts, "--model", "minilm", "--url", scripted_pool.url, "--wait", "--output", out)

    assert result.exit_code == 0, result.output
    assert out.read_bytes() == b'{"custom_id":"a"}\n'
    assert (tmp_path / "out.errors.jsonl").read_bytes() == b'{"custom_id":"b"}\n'
    assert json.dumps(LINE).encode() in scripted_pool.uploads[0]
    assert b'"custom_id":"line-2"' in scripted_pool.uploads[0]
    assert b'filename="texts.jsonl"' in scripted_pool.uploads[0]
    assert scripted_pool.created == [
        {"input_file_id": "file-1", "endpoint": "/v1/embeddings", "completion_window": "24h"}
    ]
    assert "1 of 2 requests done, 1 refused or failed" in result.stdout


def test_rankings_are_handed_in_for_their_endpoint(scripted_pool, run, tmp_path):
    """Short lines as well as full ones."""
    full = LINE | {"url": "/v1/rerank", "body": {"model": "r", "query": "q", "documents": ["d"]}}
    file = tmp_path / "rankings.jsonl"
    file.write_text(json.dumps(full) + '\n{"query": "q", "documents": ["d"], "top_n": 1}\n')

    result = run(file, "--model", "r", "--url", scripted_pool.url, "--endpoint", "/v1/rerank")

    assert result.exit_code == 0, result.output
    assert scripted_pool.created[0]["endpoint"] == "/v1/rerank"
    assert json.dumps(full).encode() in scripted_pool.uploads[0]
    assert b'"url":"/v1/rerank"' in scripted_pool.uploads[0]
    assert b'"query":"q","documents":["d"],"top_n":1,"model":"r"' in scripted_pool.uploads[0]


def test_json_is_the_batch_and_where_its_files_lie(scripted_pool, run, texts, tmp_path):
    """One object on stdout, nothing else."""
    scripted_pool.batches = [batch("completed", output_file_id="file-out")]
    scripted_pool.files = {"file-out": b"{}\n"}
    out = tmp_path / "out.jsonl"

    result = run(texts, "--model", "minilm", "--url", scripted_pool.url, "--wait", "--json",
                 "--output", out)  # fmt: skip

    facts = json.loads(result.stdout)
    assert (facts["batch"]["status"], facts["output"], facts["errors"]) == (
        "completed",
        str(out),
        None,
    )


def test_without_wait_it_says_how_to_wait(scripted_pool, run, texts):
    """The id alone would leave the customer to guess."""
    result = run(texts, "--model", "minilm", "--url", scripted_pool.url)

    assert result.exit_code == 0
    assert f"--batch batch_1 --url {scripted_pool.url}" in result.stdout
    assert scripted_pool.asked == 0


def test_a_batch_handed_in_before_is_waited_for(scripted_pool, run, tmp_path):
    """Nothing is uploaded again."""
    scripted_pool.batches = [batch("completed", output_file_id="file-out")]
    scripted_pool.files = {"file-out": b"{}\n"}
    out = tmp_path / "out.jsonl"

    result = run("--batch", "batch_1", "--url", scripted_pool.url, "--wait", "--output", out)

    assert result.exit_code == 0
    assert out.exists()
    assert scripted_pool.uploads == []


def test_a_file_that_fails_validation_is_listed_line_by_line(scripted_pool, run, texts):
    """Code, line and message of each error; the exit code is 1."""
    errors = [
        {"code": "invalid_json_line", "line": 2, "message": "not JSON", "param": None},
        {"code": "duplicate_custom_id", "line": 5, "message": "seen in line 1", "param": "x"},
    ]
    scripted_pool.batches = [batch("failed", errors={"object": "list", "data": errors})]

    result = run(texts, "--model", "minilm", "--url", scripted_pool.url, "--wait")

    assert result.exit_code == 1
    assert "line 2: invalid_json_line: not JSON" in result.stderr
    assert "line 5: duplicate_custom_id: seen in line 1" in result.stderr


def test_a_wrong_key_is_named_as_such(scripted_pool, run, texts, tmp_path):
    """The remedy is in the message."""
    wrong = tmp_path / "wrong.key"
    wrong.write_text("ip_other")

    result = run(texts, "--model", "minilm", "--url", scripted_pool.url, key=wrong)

    assert result.exit_code == 1
    assert "401" in result.stderr
    assert "--key-file" in result.stderr


def test_a_pool_that_is_not_there_is_named_with_its_address(run, texts):
    """Port 9 of this machine answers nobody."""
    result = run(texts, "--model", "minilm", "--url", "http://127.0.0.1:9")

    assert result.exit_code == 1
    assert "no answer from http://127.0.0.1:9" in result.stderr


def test_a_pool_that_goes_away_while_waiting_is_asked_again(scripted_pool, run, texts, tmp_path):
    """A batch outlives its pool's restart; so does the waiting."""
    scripted_pool.batches = [batch("in_progress"), None, batch("completed")]

    result = run(texts, "--model", "minilm", "--url", scripted_pool.url, "--wait",
                 "--output", tmp_path / "out.jsonl")  # fmt: skip

    assert result.exit_code == 0
    assert scripted_pool.asked == 3


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: ["gone.jsonl", "--url", "http://127.0.0.1:9"], "gone.jsonl cannot be read"),
        (lambda p: ["--url", "http://x"], "give either FILE, or --batch"),
        (lambda p: [p, "--batch", "b", "--url", "http://x"], "give either FILE, or --batch"),
        (lambda p: ["--batch", "b", "--url", "http://x"], "--batch goes with --wait"),
        (lambda p: [p, "--model", "minilm", "--url", "pool:80"], "write http://HOST:PORT"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_sent(run, texts, make, said):
    """Each with the option that has to change."""
    result = run(*make(texts))

    assert result.exit_code != 0
    assert said in result.stderr


def test_a_key_file_with_more_than_a_token_is_refused_without_showing_it(run, texts, tmp_path):
    """Keys are not printed."""
    odd = tmp_path / "odd.key"
    odd.write_text("ip_secret and more")

    result = run(texts, "--url", "http://127.0.0.1:9", key=odd)

    assert "must hold one token" in result.stderr
    assert "ip_secret" not in result.output


def test_ctrl_c_while_waiting_says_how_to_go_on(scripted_pool, key_file, texts, tmp_path):
    """The batch is the pool's by then; the command to wait for it again is complete."""
    scripted_pool.batches = [batch("in_progress")]
    command = [sys.executable, "-m", "pool", "submit", str(texts), "--model", "minilm", "--wait",
               "--url", scripted_pool.url, "--key-file", str(key_file),
               "--output", str(tmp_path / "out.jsonl")]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    scripted_pool.on_batch = lambda: os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)

    assert process.returncode == 130
    assert f"--batch batch_1 --url {scripted_pool.url} --key-file {key_file} --wait" in stderr


QUOTE = {
    "object": "quote",
    "model": "minilm",
    "rows": 1_000,
    "work": 20_000,
    "unit_price": 3,
    "pay": 60_000,
    "check": 29_780,
    "fee": 1_200,
    "total": 90_980,
    "balance": 90_979,
    "assurance_ppm": 466_331,
    "requests": {"total": 1_001, "refused": 1},
}


def test_a_quote_shows_every_part_of_the_price_and_hands_nothing_in(scripted_pool, run, texts):
    scripted_pool.quote = QUOTE

    result = run(texts, "--model", "minilm", "--url", scripted_pool.url, "--quote",
                 "--assurance", "0.999/0.001")  # fmt: skip

    assert result.exit_code == 0, result.output
    assert scripted_pool.quoted == [
        {
            "input_file_id": "file-1",
            "endpoint": "/v1/embeddings",
            "metadata": {"assurance": "0.999/0.001"},
        }
    ]
    assert scripted_pool.created == []
    assert scripted_pool.deleted == ["file-1"]
    told = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()[1:-1]}
    assert told["rows"] == ["1,000", "1", "requests", "would", "be", "refused"]
    assert told["work"] == ["20,000"]
    assert told["pay"] == ["60,000", "3", "a", "unit", "of", "work"]
    assert told["checks"][0] == "29,780"
    assert told["checks"][-2:] == ["46.6331", "%"]
    assert told["fee"] == ["1,200"]
    assert told["total"] == ["90,980"]
    assert told["balance"] == ["90,979", "too", "little"]


def test_a_quote_in_json_is_what_the_pool_said(scripted_pool, run, texts):
    scripted_pool.quote = QUOTE

    result = run(texts, "--model", "minilm", "--url", scripted_pool.url, "--quote", "--json")

    assert json.loads(result.stdout) == {"quote": QUOTE}
    assert "metadata" not in scripted_pool.quoted[0]


def test_the_wish_for_assurance_goes_with_the_batch(scripted_pool, run, texts):
    result = run(texts, "--model", "minilm", "--url", scripted_pool.url, "--assurance", "full")

    assert result.exit_code == 0, result.output
    assert scripted_pool.created[0]["metadata"] == {"assurance": "full"}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["texts.jsonl", "--quote", "--wait"], "either --quote or --wait"),
        (["--batch", "b", "--wait", "--quote"], "--assurance and --quote go with FILE"),
        (["--batch", "b", "--wait", "--assurance", "full"], "--assurance and --quote go with FILE"),
    ],
)
def test_what_does_not_go_together_is_said(run, arguments, why):
    result = run(*arguments, "--url", "http://127.0.0.1:1")

    assert result.exit_code == 2
    assert why in result.output
