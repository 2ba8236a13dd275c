"""Payout addresses by type: ``evm`` (an account of Ethereum and its kin), ``text`` (anything that
a treasurer can read)."""

from __future__ import annotations

import re
import unicodedata

from shares.money.keccak import keccak256

KINDS = ("text", "evm")

_EVM = re.compile(r"0x[0-9a-fA-F]{40}")
_SPACES = re.compile(" +")
_LONGEST = 128  # characters of a text


class AddressError(ValueError):
    """This is no address of its type; the text says what one looks like."""


def check(kind: str, address: str) -> str:
    """The address in the one form in which it is kept and compared. Raises ``AddressError``."""
    if kind == "evm":
        return _evm(address)
    if kind == "text":
        return _text(address)
    raise ValueError(f"address type {kind!r}: use {' or '.join(KINDS)}")


def checksummed(address: bytes) -> str:
    """An address of 20 bytes as EIP-55 writes it: its capitals are a checksum."""
    digits = address.hex()
    nibbles = keccak256(digits.encode()).hex()
    return "0x" + "".join(
        digit.upper() if int(nibble, 16) >= 8 else digit
        for digit, nibble in zip(digits, nibbles, strict=False)
    )


def _evm(address: str) -> str:
    if not _EVM.fullmatch(address):
        raise AddressError(
            f"payout address {address[:60]!r}: write 0x and 40 hex digits (ENS names are not "
            "looked up)"
        )
    digits = address[2:]
    expected = checksummed(bytes.fromhex(digits))
    mixed = digits != digits.lower() and digits != digits.upper()
    if mixed and address != expected:
        raise AddressError(
            f"payout address {address}: its capitals do not fit its digits, so one of them is "
            "mistyped: copy it again"
        )
    if int(digits, 16) == 0:
        raise AddressError(f"payout address {address}: nobody has the zero address")
    return expected


def _text(address: str) -> str:
    # Two accounts are one person's if their texts are equal: spaces must not tell them apart.
    found = _SPACES.sub(" ", unicodedata.normalize("NFC", address).strip())
    # A spreadsheet runs what begins with one of =+-@ or their wide forms: no sign comes first.
    fits = 1 <= len(found) <= _LONGEST and found.isprintable() and found[0].isalnum()
    if not fits:
        raise AddressError(
            f"payout address {address[:60]!r}: use 1 to {_LONGEST} printable characters in one "
            "line, the first of them a letter or digit"
        )
    return found
