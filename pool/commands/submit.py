"""``inferpool submit``: a customer's batch, from the file to its results."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pool.batches.endpoints import EMBEDDINGS, OPERATIONS
from pool.commands.common import echo_json, json_option

if TYPE_CHECKING:
    from pool.commands.lines import Lines
    from pool.customer import Customer, Quote

_ERRORS_SHOWN = 10


@click.command(
    epilog="Example:  inferpool submit texts.jsonl --model all-MiniLM-L6-v2"
    " --url http://127.0.0.1:8080 --key-file customer.key --wait --output vectors.jsonl"
)
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--model", help="The model of lines that name none.")
@click.option("--url", required=True, metavar="http://HOST:PORT", help="The pool's HTTP address.")
@click.option(
    "--key-file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file that holds the customer's token.",
)
@click.option(
    "--endpoint",
    default=EMBEDDINGS,
    show_default=True,
    help=f"What is asked for: {', '.join(OPERATIONS)}.",
)
@click.option(
    "--assurance",
    metavar="WISH",
    help='What to buy beyond the ordinary checks: "full" (every row twice), "trusted" (rigs on the'
    ' operator\'s list), or P/F such as "0.999/0.001" (with probability 0.999 at most 0.1 % of the'
    " rows are false).",
)
@click.option(
    "--quote", "only_quote", is_flag=True, help="Say what the batch would cost; hand nothing in."
)
@click.option("--wait", is_flag=True, help="Stay until the batch is over, and fetch its output.")
@click.option("--batch", "batch_id", metavar="ID", help="Wait for this batch; upload nothing.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="OUT.jsonl",
    help="Where results go; refused lines go to OUT.errors.jsonl.  [default: FILE.output.jsonl]",
)
@json_option
def submit(
    file: Path | None,
    model: str | None,
    url: str,
    key_file: Path,
    endpoint: str,
    assurance: str | None,
    only_quote: bool,
    wait: bool,
    batch_id: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Hand in the requests of FILE as one batch.

    A line is a request in the form of OpenAI's Batch API, or {"input": "a text"}, or {"query":
    "a text", "documents": [...]} for a reranker, with a "custom_id" of your own if you like; the
    latter become requests to ENDPOINT for MODEL.
    With --wait the exit code is 0 only when the batch completed. With --quote the file is read by
    the pool, priced and deleted again.
    """
    import trio

    from pool.commands.lines import Lines
    from pool.customer import CustomerError

    if (file is None) == (batch_id is None):
        raise click.UsageError("give either FILE, or --batch ID to wait for one handed in before")
    if batch_id is not None and not wait:
        raise click.UsageError("--batch goes with --wait")
    if batch_id is not None and (only_quote or assurance is not None):
        raise click.UsageError("--assurance and --quote go with FILE, not with --batch")
    if only_quote and wait:
        raise click.UsageError("give either --quote or --wait")
    key = _read_key(key_file)
    if output is None:
        output = file.with_suffix(".output.jsonl") if file else Path(f"{batch_id}.output.jsonl")
    if wait and not output.resolve().parent.is_dir():
        raise click.ClickException(f"--output {output}: its folder does not exist")
    begun = _Begun(batch_id)
    try:
        if file is not None and only_quote:
            found = trio.run(_ask_price, file, Lines(endpoint, model), url, key, assurance)
            _say_price(found, file, assurance, as_json)
            return
        if file is not None:
            trio.run(_hand_in, file, Lines(endpoint, model), url, key, assurance, begun)
        if not wait:
            _say_handed_in(begun, url, key_file, as_json)
            return
        facts = trio.run(_wait, url, key, begun.id, output)
    except CustomerError as error:
        raise click.ClickException(f"{error}{begun.hint(url, key_file, output)}") from None
    except KeyboardInterrupt:
        click.echo(f"interrupted{begun.hint(url, key_file, output)}", err=True)
        sys.exit(130)
    _say_end(facts, as_json)


class _Begun:
    """The batch that this command has started, if it got that far."""

    def __init__(self, batch: str | None) -> None:
        self.id = batch or ""

    def hint(self, url: str, key_file: Path, output: Path) -> str:
        if not self.id:
            return ""
        return (
            f"\nThe pool goes on with batch {self.id}. To wait for it again:\n"
            f"  inferpool submit --batch {self.id} --url {url} --key-file {key_file}"
            f" --wait --output {output}"
        )


def _read_key(key_file: Path) -> str:
    try:
        key = key_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"--key-file {key_file} cannot be read: {error}") from None
    if not key or not key.isascii() or len(key.split()) != 1:
        raise click.ClickException(f"--key-file {key_file} must hold one token and nothing else")
    return key


async def _hand_in(
    file: Path, lines: Lines, url: str, key: str, assurance: str | None, begun: _Begun
) -> None:
    from pool.customer import Customer

    async with Customer(url, key) as customer:
        uploaded = await _upload(customer, file, lines)
        begun.id = (await customer.create_batch(uploaded, lines.endpoint, assurance)).id


async def _ask_price(file: Path, lines: Lines, url: str, key: str, assurance: str | None) -> Quote:
    from pool.customer import Customer

    async with Customer(url, key) as customer:
        uploaded = await _upload(customer, file, lines)
        try:
            return await customer.quote(uploaded, lines.endpoint, assurance)
        finally:
            await customer.delete_file(uploaded)


async def _upload(customer: Customer, file: Path, lines: Lines) -> str:
    """The uploaded file's id."""
    import trio

    from pool.commands.lines import expand_file
    from pool.progress import upload_bar

    with tempfile.TemporaryDirectory(prefix="inferpool-submit-") as folder:
        try:
            ready = await trio.to_thread.run_sync(
                expand_file, file, lines, Path(folder) / "input.jsonl"
            )
            size = ready.stat().st_size
        except OSError as error:
            raise click.ClickException(f"{file} cannot be read: {error.strerror}") from None
        with upload_bar(file.name, size) as sent:
            return await customer.upload(ready, file.name, sent)


async def _wait(url: str, key: str, batch: str, output: Path) -> dict[str, Any]:
    from pool.customer import Customer
    from pool.progress import batch_bar

    async with Customer(url, key) as customer:
        with batch_bar(batch) as (seen, lost):
            found = await customer.wait(batch, seen, lost)
        facts: dict[str, Any] = {"batch": found.raw, "output": None, "errors": None}
        for name, file, path in (
            ("output", found.output_file_id, output),
            ("errors", found.error_file_id, output.with_suffix(".errors.jsonl")),
        ):
            if file is not None:
                await customer.download(file, path)
                facts[name] = str(path)
    return facts


def _say_price(quote: Quote, file: Path, assurance: str | None, as_json: bool) -> None:
    if as_json:
        echo_json({"quote": quote.raw})
        return
    wish = f" with assurance {assurance}" if assurance else ""
    click.echo(f"{file.name} for {quote.model}{wish}:")
    refused = quote.requests.get("refused", 0)
    rows = (
        ("rows", quote.rows, f"{refused:,} requests would be refused" if refused else ""),
        ("work", quote.work, ""),
        ("pay", quote.pay, f"{quote.unit_price:,} a unit of work"),
        ("checks", quote.check, _checked(quote.assurance_ppm)),
        ("fee", quote.fee, ""),
        ("total", quote.total, ""),
        ("balance", quote.balance, "too little" if quote.balance < quote.total else ""),
    )
    for name, units, remark in rows:
        click.echo(f"  {name:8}{units:>20,}" + (f"  {remark}" if remark else ""))
    click.echo("nothing is reserved; what is not needed of pay and fee comes back")


def _checked(ppm: int) -> str:
    if ppm >= 1_000_000:
        return "every row is computed twice"
    return f"each row is computed twice with a chance of {ppm / 10_000:.4f} %" if ppm else ""


def _say_handed_in(begun: _Begun, url: str, key_file: Path, as_json: bool) -> None:
    if as_json:
        echo_json({"batch": {"id": begun.id}})
        return
    click.echo(f"batch {begun.id} is handed in. To wait for it and fetch its output:")
    click.echo(f"  inferpool submit --batch {begun.id} --url {url} --key-file {key_file} --wait")


def _say_end(facts: dict[str, Any], as_json: bool) -> None:
    batch = facts["batch"]
    counts = batch.get("request_counts") or {}
    if as_json:
        echo_json(facts)
    else:
        click.echo(
            f"batch {batch['id']} is {batch['status']}:"
            f" {counts.get('completed', 0):,} of {counts.get('total', 0):,} requests done,"
            f" {counts.get('failed', 0):,} refused or failed"
        )
        for what in ("output", "errors"):
            if facts[what]:
                click.echo(f"{what}: {facts[what]}")
    if batch["status"] != "completed":
        raise click.ClickException(
            f"batch {batch['id']} {batch['status']}" + _reasons(batch.get("errors"))
        )


def _reasons(errors: dict[str, Any] | None) -> str:
    found = (errors or {}).get("data") or []
    lines = [
        "  "
        + (f"line {error['line']}: " if error.get("line") else "")
        + f"{error.get('code')}: {error.get('message')}"
        for error in found[:_ERRORS_SHOWN]
    ]
    if len(found) > _ERRORS_SHOWN:
        lines.append(f"  and {len(found) - _ERRORS_SHOWN:,} more")
    return ":\n" + "\n".join(lines) if lines else ""
