"""From what happened to ledger entries: who gives, who gets. Pure; amounts are whole units.

Each function returns a balanced transaction: (account code, amount) pairs that add up to zero, one
for each code, none of them zero. A rig is named ``ACCOUNT.RIG``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Entries = tuple[tuple[str, int], ...]

EXTERNAL = "external"  # the world outside: negative by what came in
RESERVE = "reserve"
FORFEITS = "forfeits"
POT = "pot"  # released pay that a round divides (pplns)
POT_FRACTIONS = "pot.fractions"  # what backs the fractions of units that accounts carry
OPERATOR_FEE = "operator.fee"
OPERATOR_COST = "operator.cost"


def customer(account: str) -> str:
    """A customer's balance."""
    return f"customer:{account}"


def escrow_pay(job: int) -> str:
    """What is reserved for the job's rows."""
    return f"escrow.pay:{job}"


def escrow_check(job: int) -> str:
    """What is reserved for the job's checks."""
    return f"escrow.check:{job}"


def escrow_fee(job: int) -> str:
    """What is reserved for the operator."""
    return f"escrow.fee:{job}"


def escrows(job: int) -> tuple[str, str, str]:
    """All that is reserved for a job."""
    return escrow_pay(job), escrow_check(job), escrow_fee(job)


def pending(rig: str) -> str:
    """A rig's pay for shares without a verdict."""
    return f"pending:{rig}"


def held(rig: str) -> str:
    """A rig's pay for cleared shares, not yet released."""
    return f"held:{rig}"


def available(account: str) -> str:
    """What can be paid out to a miner."""
    return f"available:{account}"


def in_flight(account: str) -> str:
    """What is on its way to a miner."""
    return f"payout:{account}"


def paid(account: str) -> str:
    """What a miner was paid, in all."""
    return f"paid:{account}"


def source_code(source: str, job: int) -> str:
    """Where a credit of this source (``pay``, ``check`` or ``reserve``) takes its units from."""
    match source:
        case "pay":
            return escrow_pay(job)
        case "check":
            return escrow_check(job)
        case "reserve":
            return RESERVE
    raise ValueError(f"credit source {source!r}: use pay, check or reserve")


def deposited(account: str, units: int) -> Entries:
    """Money came in for a customer; ``account`` ``reserve`` seeds the reserve."""
    return _entries([(EXTERNAL, -units), (_deposit_code(account), units)])


def reserved(account: str, job: int, *, pay: int, check: int, fee: int) -> Entries:
    """A job's price is set aside."""
    return _entries(
        [
            (customer(account), -(pay + check + fee)),
            (escrow_pay(job), pay),
            (escrow_check(job), check),
            (escrow_fee(job), fee),
        ]
    )


def accepted(job: int, source: str, rigs: Mapping[str, int]) -> Entries:
    """Parts were accepted: {rig: units} are pending."""
    return _move(source_code(source, job), {pending(rig): units for rig, units in rigs.items()})


def returned(job: int, source: str, rigs: Mapping[str, int]) -> Entries:
    """Shares were rejected or void: pending pay goes back to where it came from."""
    return _gather({pending(rig): units for rig, units in rigs.items()}, source_code(source, job))


def cleared(rigs: Mapping[str, int]) -> Entries:
    """Shares were cleared: pending pay is held."""
    return _entries(
        entry
        for rig, units in rigs.items()
        for entry in ((pending(rig), -units), (held(rig), units))
    )


def forfeited(rigs: Mapping[str, int]) -> Entries:
    """An offence: pending pay is forfeited."""
    return _gather({pending(rig): units for rig, units in rigs.items()}, FORFEITS)


def forfeited_at_source(job: int, source: str, units: int) -> Entries:
    """An offence: pay that was not even pending yet is forfeited."""
    return _entries([(source_code(source, job), -units), (FORFEITS, units)])


def refilled(job: int, units: int) -> Entries:
    """Forfeited pay of a job's rows pays for computing them again, at the standard rate."""
    return _entries([(FORFEITS, -units), (escrow_pay(job), units)])


def held_forfeited(rig: str, units: int) -> Entries:
    """An offence: held pay is forfeited."""
    return _entries([(held(rig), -units), (FORFEITS, units)])


def fee_earned(job: int, units: int) -> Entries:
    """Cleared work earned the operator this much of the fee."""
    return _entries([(escrow_fee(job), -units), (OPERATOR_FEE, units)])


def referee_charged(job: int, units: int) -> Entries:
    """The referee's runs cost this much of the job's levy."""
    return _entries([(escrow_check(job), -units), (OPERATOR_COST, units)])


def guilty_referee(job: int, units: int) -> Entries:
    """Whoever was convicted pays for the runs that did it: forfeits make up for the job's levy."""
    return _entries([(FORFEITS, -units), (escrow_check(job), units)])


def completed(
    account: str, job: int, *, pay: int, check: int, fee: int, unused: int = 0
) -> Entries:
    """A job is over: the rest of pay and fee to the customer, of the levy to the reserve.

    ``unused``: of ``check``, what goes back too: assurance bought for work that was not done, or
    all of it when nothing was.
    """
    return _entries(
        [
            (escrow_pay(job), -pay),
            (escrow_fee(job), -fee),
            (escrow_check(job), -check),
            (customer(account), pay + fee + unused),
            (RESERVE, check - unused),
        ]
    )


def refunded(account: str, units: int) -> Entries:
    """A delivered row was wrong: its customer gets its price back."""
    return _entries([(FORFEITS, -units), (customer(account), units)])


def swept(units: int) -> Entries:
    """Forfeits that no job needs any more."""
    return _entries([(FORFEITS, -units), (RESERVE, units)])


def released(account: str, rig: str, units: int) -> Entries:
    """Held pay can be paid out. ``rig`` is ``ACCOUNT.RIG``."""
    return _entries([(held(rig), -units), (available(account), units)])


def pooled(rig: str, units: int) -> Entries:
    """Held pay goes to the pot of a round. ``rig`` is ``ACCOUNT.RIG``."""
    return _entries([(held(rig), -units), (POT, units)])


def pot_divided(accounts: Mapping[str, int], kept: int) -> Entries:
    """A round's pot is paid; ``kept`` backs fractions (below zero: fractions became units)."""
    return _entries(
        [
            (POT, -sum(accounts.values()) - kept),
            *((available(account), units) for account, units in accounts.items()),
            (POT_FRACTIONS, kept),
        ]
    )


def advanced(accounts: Mapping[str, int]) -> Entries:
    """The reserve pays for accepted shares before their verdict (pps)."""
    return _move(RESERVE, {available(account): units for account, units in accounts.items()})


def repaid(rig: str, units: int) -> Entries:
    """What a rig was advanced comes back to the reserve out of its cleared pay."""
    return _entries([(held(rig), -units), (RESERVE, units)])


def made_good(account: str, source: str, units: int) -> Entries:
    """The referee was wrong: the operator's ``source`` gives back what a miner lost by it."""
    return _entries([(source, -units), (available(account), units)])


def payout_reserved(account: str, units: int) -> Entries:
    """A payout was begun: nobody else can take these units any more."""
    return _entries([(available(account), -units), (in_flight(account), units)])


def payout_finalised(account: str, units: int) -> Entries:
    """The miner has the money."""
    return _entries([(in_flight(account), -units), (paid(account), units)])


def payout_returned(account: str, units: int) -> Entries:
    """A payout was not made and will not be: the units are available again."""
    return _entries([(in_flight(account), -units), (available(account), units)])


def _deposit_code(account: str) -> str:
    return RESERVE if account == RESERVE else customer(account)


def _move(source: str, targets: Mapping[str, int]) -> Entries:
    return _entries([(source, -sum(targets.values())), *targets.items()])


def _gather(sources: Mapping[str, int], target: str) -> Entries:
    return _entries(
        [*((code, -units) for code, units in sources.items()), (target, sum(sources.values()))]
    )


def _entries(pairs: Iterable[tuple[str, int]]) -> Entries:
    amounts: dict[str, int] = {}
    for code, amount in pairs:
        amounts[code] = amounts.get(code, 0) + amount
    return tuple((code, amount) for code, amount in amounts.items() if amount)
