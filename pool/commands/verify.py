"""``inferpool verify``: receipts against the roots that the pool published."""

from __future__ import annotations

from pathlib import Path

import click
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pool.commands.common import echo_json, echo_table, json_option
from pool.commands.pages import Page, pages_of, pages_of_file
from shares.receipts import Verify, check, receipt_from_json, root_from_json


@click.command(
    epilog="Example:  inferpool verify receipts.json --roots https://pool.example/api/v1/roots"
)
@click.argument("receipts_file", metavar="RECEIPTS", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--roots",
    "roots_from",
    metavar="FILE_OR_URL",
    required=True,
    help="The published roots: pages of /api/v1/roots in a file, or its address.",
)
@click.option("--public-key", metavar="HEX", help="The pool's key, as you noted it earlier.")
@json_option
def verify(receipts_file: Path, roots_from: str, public_key: str | None, as_json: bool) -> None:
    """Check receipts: paths, signatures, the chain of roots without gaps.

    RECEIPTS holds pages of /api/v1/accounts/me/receipts, one after the other. With roots in a file
    nothing is asked of the network. Rows and work are summed by account; what fails is named, and
    the exit status is 1.
    """
    receipt_pages = pages_of_file(receipts_file)
    root_pages = pages_of(roots_from, _next)
    keys = {page.get("public_key") for page in receipt_pages + root_pages}
    if public_key is not None:
        keys.add(public_key.lower())
    if len(keys) != 1:
        raise click.ClickException(
            "receipts, roots and --public-key do not name one key: the pool's key has changed, "
            "or they are of different pools"
        )
    try:
        receipts = [receipt_from_json(one) for page in receipt_pages for one in page["data"]]
        roots = [root_from_json(one) for page in root_pages for one in page["data"]]
        verdict = check(receipts, roots, _verifier(str(keys.pop())))
    except ValueError as error:
        raise click.ClickException(f"receipts or roots cannot be read: {error}") from None
    if as_json:
        totals = {name: {"rows": r, "work": w} for name, (r, w) in verdict.totals.items()}
        echo_json(
            {
                "receipts": verdict.receipts,
                "roots": verdict.roots,
                "accounts": totals,
                "failures": verdict.failures,
            }
        )
    else:
        click.echo(f"{verdict.receipts} receipts, {verdict.roots} roots")
        rows = [[name, *total] for name, total in sorted(verdict.totals.items())]
        echo_table(["ACCOUNT", "ROWS", "WORK"], rows)
        for failure in verdict.failures:
            click.echo(f"FAILED  {failure}")
    if verdict.failures:
        raise click.exceptions.Exit(1)


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
