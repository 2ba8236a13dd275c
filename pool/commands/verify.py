"""``inferpool verify``: receipts against the roots that the pool published, and against pay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pool.commands.common import echo_json, echo_table, json_option
from pool.commands.pages import Page, pages_of, pages_of_file
from shares.receipts import (
    Verify,
    check,
    check_delivered,
    check_pay,
    delivered_from_json,
    pay_from_json,
    receipt_from_json,
    root_from_json,
)


@click.command(
    epilog="Example:  inferpool verify receipts.json --roots https://pool.example/api/v1/roots"
)
@click.argument("receipts_path", metavar="RECEIPTS", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--roots",
    "roots_from",
    metavar="FILE_OR_URL",
    required=True,
    help="The published roots: pages of /api/v1/roots in a file, or its address.",
)
@click.option(
    "--pay",
    "pay_file",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True),
    help="Pages of /api/v1/accounts/me/credits: every leaf must have been credited.",
)
@click.option("--public-key", metavar="HEX", help="The pool's key, as you noted it earlier.")
@json_option
def verify(
    receipts_path: Path,
    roots_from: str,
    pay_file: Path | None,
    public_key: str | None,
    as_json: bool,
) -> None:
    """Check receipts: paths, signatures, the chain of roots without gaps, and pay.

    RECEIPTS is a file with pages of /api/v1/accounts/me/receipts, one after the other, or a folder
    that `inferpool worker --receipts` filled: then each part that was delivered must have its
    receipt. With roots in a file nothing is asked of the network. Rows and work are summed by
    account; what fails is named, and the exit status is 1.
    """
    receipt_pages, delivered_pages = _kept(receipts_path)
    root_pages = pages_of(roots_from, _next)
    keys = {page.get("public_key") for page in receipt_pages + root_pages}
    if public_key is not None:
        keys.add(public_key.lower())
    if len(keys) != 1:
        raise click.ClickException(
            "receipts, roots and --public-key do not name one key: the pool's key has changed, "
            "or they are of different pools"
        )
    delivered, sums = None, None
    try:
        receipts = [receipt_from_json(one) for one in _entries(receipt_pages)]
        roots = [root_from_json(one) for one in _entries(root_pages)]
        verdict = check(receipts, roots, _verifier(str(keys.pop())))
        leaves = [receipt.leaf for receipt in receipts]
        if delivered_pages:
            parts = [delivered_from_json(one) for one in _entries(delivered_pages)]
            delivered = check_delivered(leaves, parts, verdict.failures)
        if pay_file is not None:
            pays = [pay_from_json(one) for one in _entries(pages_of_file(pay_file))]
            sums = check_pay(leaves, pays, verdict.failures)
    except ValueError as error:
        raise click.ClickException(
            f"receipts, roots or pay cannot be read: {error}: save the pool's answers whole"
        ) from None
    if as_json:
        totals = {name: {"rows": r, "work": w} for name, (r, w) in verdict.totals.items()}
        echo_json(
            {
                "receipts": verdict.receipts,
                "roots": verdict.roots,
                "delivered": delivered,
                "accounts": totals,
                "units": sums,
                "failures": verdict.failures,
            }
        )
    else:
        click.echo(f"{verdict.receipts} receipts, {verdict.roots} roots")
        if delivered is not None:
            click.echo(f"{delivered} parts were delivered from here")
        rows = [[name, *total] for name, total in sorted(verdict.totals.items())]
        echo_table(["ACCOUNT", "ROWS", "WORK"], rows)
        if sums is not None:
            echo_table(["PAY", "UNITS"], [[state, sums[state]] for state in sorted(sums)])
        for failure in verdict.failures:
            click.echo(f"FAILED  {failure}")
    if verdict.failures:
        raise click.exceptions.Exit(1)


def _kept(path: Path) -> tuple[list[Page], list[Page]]:
    """Pages of receipts, and of delivered parts where a rig wrote them down."""
    if not path.is_dir():
        return pages_of_file(path), []
    receipts = sorted(path.glob("*.receipts.jsonl"))
    if not receipts:
        folders = sorted({file.parent.name for file in path.glob("*/*.receipts.jsonl")})
        raise click.ClickException(
            f"{path} holds receipts of several pools: name one of the folders in it: "
            + ", ".join(folders)
            if folders
            else f"{path} holds no receipts: name the folder of one pool, as "
            "`inferpool worker --receipts` made it"
        )
    delivered = sorted(path.glob("*.delivered.jsonl"))
    return (
        [page for file in receipts for page in pages_of_file(file)],
        [page for file in delivered for page in pages_of_file(file)],
    )


def _entries(pages: list[Page]) -> list[dict[str, Any]]:
    return [one for page in pages for one in page["data"]]


def _next(page: Page) -> dict[str, int] | None:
    """Roots are listed from the first on."""
    more = page.get("has_more") and page["data"]
    return {"after": page["data"][-1].get("sequence", 0)} if more else None


def _verifier(public_key: str) -> Verify:
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))

    def holds(signature: bytes, message: bytes) -> bool:
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return holds
