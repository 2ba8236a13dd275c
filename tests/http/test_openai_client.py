"""The official client, pointed at the pool: the flow that a customer's program goes through."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import BytesIO
from typing import TypeVar

import msgspec
import numpy as np
import openai
import pytest
import trio
from customer_side import UNLUCKY, Served, embed_line, embedding, jsonl

T = TypeVar("T")


async def as_customer(
    served: Served, work: Callable[[openai.OpenAI], T], key: str = "", *, strict: bool = True
) -> T:
    """Run ``work`` with the official client, in a thread; ``strict``: it checks every answer."""

    def run() -> T:
        with openai.OpenAI(
            base_url=f"{served.url}/v1",
            api_key=key or served.key,
            timeout=30,
            max_retries=0,
            _strict_response_validation=strict,
        ) as client:
            return work(client)

    return await trio.to_thread.run_sync(run)


def submit(client: openai.OpenAI, data: bytes, endpoint: str = "/v1/embeddings"):
    """Upload and make a batch."""
    file = client.files.create(file=BytesIO(data), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", metadata={"a": "b"}
    )


def wait_over(client: openai.OpenAI, batch: str):
    """Ask until the batch is over."""
    give_up = time.monotonic() + 60
    while (found := client.batches.retrieve(batch)).status not in (
        "completed",
        "failed",
        "expired",
        "cancelled",
    ):
        assert time.monotonic() < give_up, found
        time.sleep(0.02)
    return found


def read_lines(client: openai.OpenAI, file: str | None) -> list[dict]:
    """A file's lines; none for no file."""
    if file is None:
        return []
    return [msgspec.json.decode(line) for line in client.files.content(file).read().splitlines()]


@pytest.mark.parametrize("processes", [True])
async def test_a_batch_goes_from_upload_to_download(served: Served) -> None:
    """Every line is answered in the input's order; what cannot be served fails alone."""
    lines = [
        embed_line(0, "w4 w5 w6"),
        embed_line(1, ["w7", "w8 w9"]),
        embed_line(2, [10, 11, 12]),
        embed_line(3, "w4", dimensions=3),
        embed_line(4, [[10], [11, 12]], encoding_format="base64"),
        embed_line(5, [UNLUCKY]),
        *(embed_line(i, f"w{4 + i % 30} " * (1 + i % 12)) for i in range(6, 300)),
    ]

    def work(client: openai.OpenAI):
        batch = submit(client, jsonl(lines))
        assert batch.status == "validating"
        over = wait_over(client, batch.id)
        return over, read_lines(client, over.output_file_id), read_lines(client, over.error_file_id)

    over, output, errors = await as_customer(served, work)

    assert over.status == "completed"
    assert over.model == "tiny"
    assert over.metadata == {"a": "b"}
    assert over.request_counts is not None
    assert over.request_counts.model_dump() == {"total": 300, "completed": 298, "failed": 2}
    assert over.errors is None
    assert [line["custom_id"] for line in output] == [
        f"line-{i}" for i in range(300) if i not in (3, 5)
    ]
    body = output[0]["response"]["body"]
    assert body["model"] == "tiny"
    assert body["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    assert body["data"][0]["embedding"] == [
        float(str(v)) for v in embedding(np.array([2, 4, 5, 6, 3]))
    ]
    assert [item["index"] for item in output[1]["response"]["body"]["data"]] == [0, 1]
    assert over.usage is not None
    assert over.usage.total_tokens == sum(
        line["response"]["body"]["usage"]["total_tokens"] for line in output
    )
    refused, unlucky = errors
    assert refused["custom_id"] == "line-3"
    assert refused["error"] is None
    assert refused["response"]["status_code"] == 400
    assert refused["response"]["body"]["error"]["param"] == "dimensions"
    assert unlucky["response"]["status_code"] == 500
    assert unlucky["response"]["body"]["error"]["code"] == "non_finite_result"


async def test_the_same_input_gives_the_same_bytes(served: Served) -> None:
    """The output is made from the input and the results alone."""
    data = jsonl([embed_line(i, f"w{4 + i % 30}") for i in range(20)])

    def work(client: openai.OpenAI) -> list[bytes]:
        outputs = []
        for _ in range(2):
            over = wait_over(client, submit(client, data).id)
            assert over.output_file_id is not None
            assert over.error_file_id is None
            outputs.append(client.files.content(over.output_file_id).read())
        return outputs

    first, second = await as_customer(served, work)

    assert first == second


async def test_a_batch_whose_every_line_is_refused_is_completed_without_output(
    served: Served,
) -> None:
    """Nothing is computed and nothing is charged."""

    def work(client: openai.OpenAI):
        over = wait_over(client, submit(client, jsonl([embed_line(0, "w4 " * 99)])).id)
        return over, read_lines(client, over.error_file_id)

    over, errors = await as_customer(served, work)

    assert (over.status, over.output_file_id) == ("completed", None)
    assert over.model_extra is not None
    assert over.model_extra["inferpool"]["price"] == 0
    assert errors[0]["response"]["body"]["error"]["code"] == "context_length_exceeded"


async def test_a_file_that_is_wrong_fails_with_its_lines(served: Served) -> None:
    """Creation succeeds; the batch then says what is wrong, and where."""
    data = b'{"custom_id"\n' + jsonl([embed_line(0, "w4"), embed_line(0, "w5")])

    over = await as_customer(served, lambda client: wait_over(client, submit(client, data).id))

    assert over.status == "failed"
    assert over.failed_at is not None
    assert over.errors is not None
    assert over.errors.data is not None
    assert [(e.code, e.line) for e in over.errors.data] == [
        ("invalid_json_line", 1),
        ("duplicate_custom_id", 3),
    ]


async def test_too_little_balance_fails_the_batch(served: Served) -> None:
    """The price is reserved before any work, or there is none."""
    over = await as_customer(
        served,
        lambda client: wait_over(client, submit(client, jsonl([embed_line(0, "w4")])).id),
        served.poor_key,
    )

    assert over.status == "failed"
    assert over.errors is not None
    assert over.errors.data is not None
    assert over.errors.data[0].code == "insufficient_quota"
    assert served.core.jobs == {}


async def test_counts_move_and_a_cancelled_batch_keeps_what_is_done(served: Served) -> None:
    """The first of four blocks is done when the customer cancels."""
    served.core.go = trio.Event()
    data = jsonl([embed_line(i, f"w{4 + i % 30}") for i in range(400)])
    batch = await as_customer(served, lambda client: submit(client, data))
    await served.core.opened.wait()
    (job,) = served.core.jobs
    await served.core.half(job)

    def work(client: openai.OpenAI):
        moving = client.batches.retrieve(batch.id)
        cancelling = client.batches.cancel(batch.id)
        over = wait_over(client, batch.id)
        output = read_lines(client, over.output_file_id)
        return moving, cancelling, over, output, read_lines(client, over.error_file_id)

    moving, cancelling, over, output, errors = await as_customer(served, work)

    assert moving.status == "in_progress"
    assert moving.request_counts is not None
    assert moving.request_counts.completed == 100
    assert moving.model_extra is not None
    assert moving.model_extra["inferpool"]["eta"] == 1.5
    assert cancelling.status in ("cancelling", "cancelled")
    assert over.status == "cancelled"
    assert over.request_counts is not None
    assert over.request_counts.model_dump() == {"total": 400, "completed": 100, "failed": 300}
    assert len(output) == 100
    assert errors[0]["response"] is None
    assert errors[0]["error"]["code"] == "batch_cancelled"
    assert errors[0]["custom_id"] == "line-100"


async def test_lists_come_in_pages(served: Served) -> None:
    """The client walks all pages of batches and files by itself."""
    data = jsonl([embed_line(0, "w4")])

    def work(client: openai.OpenAI):
        made = [submit(client, data).id for _ in range(5)]
        for batch in made:
            wait_over(client, batch)
        batches = [batch.id for batch in client.batches.list(limit=2)]
        inputs = [file.id for file in client.files.list(limit=2, purpose="batch", order="asc")]
        outputs = list(client.files.list(purpose="batch_output"))
        deleted = client.files.delete(inputs[0])
        rest = [file.id for file in client.files.list()]
        return made, batches, inputs, outputs, deleted, rest

    made, batches, inputs, outputs, deleted, rest = await as_customer(served, work)

    assert batches == made[::-1]
    assert len(inputs) == len(set(inputs)) == 5
    assert len(outputs) == 5
    assert deleted.deleted
    assert inputs[0] not in rest
    assert len(rest) == 9


async def test_models_are_listed(served: Served) -> None:
    """Customers choose by name."""

    def work(client: openai.OpenAI):
        return [model.id for model in client.models.list()], client.models.retrieve("tiny")

    names, tiny = await as_customer(served, work)

    assert names == ["blake2b", "tiny", "ask", "ranker", "mood", "plain"]
    assert (tiny.id, tiny.object) == ("tiny", "model")


@pytest.mark.parametrize("form", ["base64", "float"])
async def test_embeddings_are_answered_at_once(served: Served, form: str) -> None:
    """The client asks for base64 unless told otherwise; both give the same numbers."""

    def work(client: openai.OpenAI):
        if form == "float":
            return client.embeddings.create(
                model="tiny", input=["w4 w5", "w6"], encoding_format="float"
            )
        return client.embeddings.create(model="tiny", input=["w4 w5", "w6"])

    # The client's strict mode refuses its own default: base64 where the answer's type says numbers.
    answer = await as_customer(served, work, strict=form == "float")

    expected = [embedding(np.array(t)) for t in ([2, 4, 5, 3], [2, 6, 3])]
    assert [item.index for item in answer.data] == [0, 1]
    for item, row in zip(answer.data, expected, strict=True):
        assert np.array_equal(np.array(item.embedding, dtype=np.float32), row)
    assert answer.usage.prompt_tokens == 7
    assert answer.model == "tiny"


async def test_refusals_come_as_the_clients_exceptions(served: Served) -> None:
    """Each with its status and code."""

    def embed(client: openai.OpenAI, **given: object):
        client.embeddings.create(**{"model": "tiny", "input": "w4", **given})

    async def refusal(key: str = "", **given: object) -> openai.APIStatusError:
        with pytest.raises(openai.APIStatusError) as caught:
            await as_customer(served, lambda client: embed(client, **given), key)
        return caught.value

    wrong_key = await refusal("ip_wrong")
    assert isinstance(wrong_key, openai.AuthenticationError)
    assert (wrong_key.code, wrong_key.request_id is not None) == ("invalid_api_key", True)
    assert isinstance(await refusal(served.miner_key), openai.PermissionDeniedError)
    poor = await refusal(served.poor_key)
    assert isinstance(poor, openai.RateLimitError)
    assert poor.code == "insufficient_quota"
    assert poor.response.headers["x-should-retry"] == "false"
    assert isinstance(await refusal(model="none"), openai.NotFoundError)
    long = await refusal(input="w4 " * 50)
    assert isinstance(long, openai.BadRequestError)
    assert long.code == "context_length_exceeded"
    assert (await refusal(dimensions=3)).param == "dimensions"  # type: ignore[attr-defined]
    assert (await refusal(model="blake2b")).code == "model_mismatch"  # type: ignore[attr-defined]
    unlucky = await refusal(input=[UNLUCKY])
    assert isinstance(unlucky, openai.InternalServerError)
    assert unlucky.response.headers["x-should-retry"] == "false"


async def test_another_customers_things_are_not_there(served: Served) -> None:
    """Ids of others are answered as ids that never were."""

    def mine(client: openai.OpenAI):
        batch = submit(client, jsonl([embed_line(0, "w4")]))
        return wait_over(client, batch.id)

    over = await as_customer(served, mine)

    def theirs(client: openai.OpenAI) -> int:
        refused = 0
        for ask in (
            lambda: client.batches.retrieve(over.id),
            lambda: client.batches.cancel(over.id),
            lambda: client.files.retrieve(over.input_file_id),
            lambda: client.files.content(over.output_file_id or ""),
            lambda: client.files.delete(over.input_file_id),
            lambda: submit_of(client, over.input_file_id),
        ):
            try:
                ask()
            except openai.APIStatusError as error:
                refused += error.status_code in (400, 404)
        assert list(client.batches.list()) == []
        return refused

    assert await as_customer(served, theirs, served.poor_key) == 6


def submit_of(client: openai.OpenAI, file: str):
    """Make a batch of an uploaded file."""
    return client.batches.create(
        input_file_id=file, endpoint="/v1/embeddings", completion_window="24h"
    )
