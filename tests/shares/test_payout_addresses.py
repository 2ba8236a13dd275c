"""Payout addresses are looked at when they are set, by their type."""

from __future__ import annotations

import pytest

from shares.money.addresses import AddressError, check

# From EIP-55.
CHECKSUMMED = [
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
    "0xde709f2102306220921060314715629080e2fb77",
    "0x27b1fdb04752bbc536007a920d24acb045561c26",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]


@pytest.mark.parametrize("address", CHECKSUMMED)
def test_every_spelling_of_an_evm_address_is_kept_as_one(address: str) -> None:
    assert check("evm", address) == address
    assert check("evm", address.lower()) == address
    assert check("evm", "0x" + address[2:].upper()) == address


@pytest.mark.parametrize("address", CHECKSUMMED[4:])
def test_one_wrong_letter_or_capital_is_found(address: str) -> None:
    letters = [n for n, letter in enumerate(address) if n > 1 and letter.isalpha()]
    for n in letters:
        wrong = address[:n] + address[n].swapcase() + address[n + 1 :]
        with pytest.raises(AddressError, match="capitals do not fit"):
            check("evm", wrong)


@pytest.mark.parametrize(
    "address",
    ["", "0x", "0x" + "1" * 39, "0x" + "1" * 41, "1" * 40, "0x" + "g" * 40, "vitalik.eth", "0X1"],
)
def test_what_is_no_evm_address_is_refused(address: str) -> None:
    with pytest.raises(AddressError, match="40 hex digits"):
        check("evm", address)


def test_nobody_has_the_zero_address() -> None:
    with pytest.raises(AddressError, match="zero address"):
        check("evm", "0x" + "0" * 40)


def test_a_treasurer_reads_any_line_of_text() -> None:
    assert (
        check("text", "  IBAN DE89 3704 0044 0532 0130 00 ") == "IBAN DE89 3704 0044 0532 0130 00"
    )
    assert check("text", "Zoe\u0308") == check("text", "Zoë")


def test_spaces_do_not_make_another_payee_of_a_text() -> None:
    """Accounts are compared by this form: one person's must not look like two."""
    assert check("text", "IBAN DE89   3704") == check("text", " IBAN DE89 3704")


@pytest.mark.parametrize(
    "address",
    ["", "  ", "a\nb", "x" * 129, "\u202eabc", "=1+1", "@SUM(A1)", "＝1+1", "'=1+1", "\u0301a"],
)
def test_text_that_no_document_could_hold_is_refused(address: str) -> None:
    """Of more than one line, too long, written backwards, or run by a spreadsheet (of which some
    take the wide signs for the narrow ones)."""
    with pytest.raises(AddressError, match="letter or digit"):
        check("text", address)


def test_there_are_two_types() -> None:
    with pytest.raises(ValueError, match="text or evm"):
        check("btc", "x")
