"""``inferpool audit``: were the rows that the pool checked those that it had to check?"""

from __future__ import annotations

from pathlib import Path

import click

from pool.commands.common import echo_json, echo_table, json_option
from pool.commands.pages import Page, pages_of, pages_of_file
from shares.receipts import receipt_from_json
from shares.trust.audit import Audit, audit, epochs_from_json, parts_from_json


@click.command(
    "audit",
    epilog="Example:  inferpool audit parts.json --epochs https://pool.example/api/v1/epochs",
)
@click.argument("parts_file", metavar="PARTS", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--epochs",
    "epochs_from",
    metavar="FILE_OR_URL",
    required=True,
    help="The epochs: pages of /api/v1/epochs in a file, or its address.",
)
@click.option(
    "--noted",
    "noted_file",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True),
    help="Pages of /api/v1/epochs that you saved earlier: what was promised then.",
)
@click.option(
    "--receipts",
    "receipts_file",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True),
    help="Your receipts: parts must be as they promise.",
)
@json_option
def audit_command(
    parts_file: Path,
    epochs_from: str,
    noted_file: Path | None,
    receipts_file: Path | None,
    as_json: bool,
) -> None:
    """Compute again which of your rows had to be checked, and compare.

    PARTS holds pages of /api/v1/accounts/me/parts, one after the other. With epochs in a file
    nothing is asked of the network. What differs is named, and the exit status is 1.
    """
    try:
        parts = parts_from_json([one for page in pages_of_file(parts_file) for one in page["data"]])
        epochs = epochs_from_json(
            [one for page in pages_of(epochs_from, _next) for one in page["data"]]
        )
        noted = {}
        if noted_file is not None:
            pages = pages_of_file(noted_file)
            earlier = epochs_from_json([one for page in pages for one in page["data"]])
            noted = {epoch.epoch: epoch.key_hash for epoch in earlier}
        receipts = []
        if receipts_file is not None:
            pages = pages_of_file(receipts_file)
            receipts = [receipt_from_json(one) for page in pages for one in page["data"]]
        result = audit(parts, epochs, receipts, noted)
    except ValueError as error:
        raise click.ClickException(
            f"parts, epochs or receipts cannot be read: {error}: save the pool's answers whole"
        ) from None
    if as_json:
        echo_json(
            {
                "parts": result.parts,
                "secret": result.secret,
                "rows": result.rows,
                "drawn": result.drawn,
                "by_rigs": result.by_rigs,
                "by_referee": result.by_referee,
                "others": result.others,
                "reasons": dict(result.reasons),
                "outcomes": dict(result.outcomes),
                "failures": result.failures,
            }
        )
    else:
        _print(result)
    if result.failures:
        raise click.exceptions.Exit(1)


def _print(result: Audit) -> None:
    click.echo(f"{result.parts} parts, of which {result.secret} wait for their epoch's key")
    share = f" ({result.drawn / result.rows:.2%})" if result.rows else ""
    click.echo(f"{result.rows} rows audited; {result.drawn} had to be checked{share}:")
    click.echo(f"  {result.by_rigs} drawn for rigs, {result.by_referee} for the referee")
    if result.others:
        click.echo(f"{result.others} more were checked, for their rig was wrong elsewhere")
    if result.reasons:
        echo_table(["WHY", "ROWS"], [[name, n] for name, n in sorted(result.reasons.items())])
    if result.outcomes:
        echo_table(["OUTCOME", "ROWS"], [[name, n] for name, n in sorted(result.outcomes.items())])
    for failure in result.failures:
        click.echo(f"FAILED  {failure}")


def _next(page: Page) -> dict[str, int] | None:
    """Epochs are listed from the latest back."""
    more = page.get("has_more") and page["data"]
    return {"before": page["data"][-1].get("epoch", 0)} if more else None
