"""Payouts as documents: a CSV or JSON file for a treasurer, a Merkle claim tree for a contract.

A round's payouts come as one object, ``payouts/ROUND-N.csv`` (or ``.json``, ``.claims.json``), N
being the number of its first payout; what is approved later in a further one. The object's presence
is the evidence: it is stored whole or not at all, and says which payouts were handed over. That
they were paid is said by a person (``inferpool payouts paid``), or, of claims, that their root is
on the chain.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from pool.payouts.carrier import Answer, NotTaken, Taken, Unknown
from pool.store.objects import Objects
from pool.store.payouts import Payout
from shares.money.claimtree import ClaimTree

FOLDER = "payouts"
_FIELDS = ("key", "account", "address", "amount")


class Documents:
    """A carrier that writes objects. ``form``: csv, json or claims."""

    together = True
    tells = False

    def __init__(self, objects: Objects, form: str, multiplier: int) -> None:
        """``multiplier``: what one of our units is in the far side's smallest."""
        self._objects = objects
        self._multiplier = multiplier
        self.name = form
        self._suffix, self._write, self._keys = _FORMS[form]
        self.kind = "evm" if form == "claims" else ""

    def submit(self, payouts: Sequence[Payout]) -> list[Answer]:
        """Write one object that holds them all."""
        rows = [
            {
                "key": payout.key,
                "account": payout.account,
                "address": payout.address,
                "amount": str(payout.units * self._multiplier),
            }
            for payout in payouts
        ]
        number = payouts[0].round
        try:
            # By its first payout: two that write at once have different payouts.
            name = f"{FOLDER}/{number}-{payouts[0].id}{self._suffix}"
            self._objects.put(name, self._write(rows))
        except OSError as error:
            unknown = Unknown(f"the document could not be written: {error}")
            return [unknown for _ in payouts]
        return [Taken(document=name) for _ in payouts]

    def look_up(self, payout: Payout) -> Answer:
        """Look into the documents of its round."""
        try:
            for name in self._names(payout.round):
                if payout.key in self._keys(self._objects.get(name)):
                    return Taken(document=name)
        except (OSError, ValueError, KeyError, TypeError) as error:
            return Unknown(f"a document of round {payout.round} cannot be read: {error}")
        return NotTaken("it stands in no document", again=True)

    def _names(self, number: int) -> list[str]:
        """All documents of a round, whatever form the operator had chosen then."""
        found = [name for name, _ in self._objects.list(FOLDER)]
        wanted = f"{FOLDER}/{number}-"
        return [name for name in found if name.startswith(wanted) and name.endswith(self._suffix)]


def _csv(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, _FIELDS, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _csv_keys(data: bytes) -> set[str]:
    return {row["key"] for row in csv.DictReader(io.StringIO(data.decode()))}


def _json(rows: list[dict[str, str]]) -> bytes:
    return json.dumps({"object": "payouts", "data": rows}, indent=1).encode()


def _json_keys(data: bytes) -> set[str]:
    return {row["key"] for row in json.loads(data)["data"]}


def _claims(rows: list[dict[str, str]]) -> bytes:
    amounts: dict[str, int] = {}
    for row in rows:  # two accounts may be paid at one address: it is one leaf
        amounts[row["address"]] = amounts.get(row["address"], 0) + int(row["amount"])
    tree = ClaimTree(amounts)
    facts: dict[str, Any] = {
        "object": "claims",
        "root": "0x" + tree.root.hex(),
        "total": str(sum(amounts.values())),
        "data": rows,
        "tree": tree.dump(),
        "proofs": {
            address: {
                "amount": str(amount),
                "proof": ["0x" + node.hex() for node in tree.proof(address)],
            }
            for address, amount in amounts.items()
        },
    }
    return json.dumps(facts, indent=1).encode()


_Form = tuple[str, Callable[[list[dict[str, str]]], bytes], Callable[[bytes], set[str]]]
_FORMS: dict[str, _Form] = {
    "csv": (".csv", _csv, _csv_keys),
    "json": (".json", _json, _json_keys),
    "claims": (".claims.json", _claims, _json_keys),
}
