"""Whether a row is wrong, by the referee's word and, where that is not clear, by a vote.

Where honest results are the same bits, the referee's word is final. In a float numerics it is
where it is clear: a result within the tolerance of its own is right, one that is far from it is
wrong (``shares.nearness``). For what lies between, established rigs of other accounts compute the
row too, first one of the same kind of device. A result speaks against another only if it is itself
within the tolerance of the referee's, and for one that it is alike to unless it is far from the
referee's; any other is an abstention, and no vote against. Two against a result and none for it
make it wrong; else it is nobody's fault.
"""

from __future__ import annotations

from hashlib import blake2b

from shares.board import checks
from shares.board.doubts import REFEREE, near
from shares.board.state import Block, Case, Check, Lease, Rig, State, Voice
from shares.nearness import Nearness

QUORUM = 2  # opinions against a result, that make it wrong
_MORE = 2  # opinions that are asked for: a third and a fourth


def right_of(state: State, block: Block, case: Case) -> dict[bytes, bool] | None:
    """Of each digest given of the case's row whether it is right.

    ``None`` while results are being compared, or further opinions are awaited.
    """
    voices = [
        Voice(lease.lease, lease.rig, lease.digest(row)) for lease, row in case.claims.values()
    ]
    accusers = [check.accuser for check in case.checks.values() if check.accuser is not None]
    every = [
        *voices,
        *(Voice(one.lease, one.rig, one.digest(one.find(case.key))) for one in accusers),
        *(
            Voice(recount.lease.lease, recount.lease.rig, recount.lease.digest(row))
            for recount, row in case.recounts.values()
        ),
    ]
    if case.cleared:
        won = block.digests[case.key[2]].tobytes()
        every.append(Voice(case.cleared, block.winners[case.cleared], won))
    words = {voice.digest: _word(state, case, voice) for voice in every}
    if None in words.values():
        return None
    right = {digest: word is Nearness.ALIKE for digest, word in words.items()}
    unsure = [voice for voice in every if words[voice.digest] is Nearness.UNSURE]
    if unsure and not case.polled:
        case.polled = True
        _poll(state, case, unsure, {voice.rig.key[0] for voice in every})
    if case.opinions:
        return None
    voters = [*voices, *case.heard]
    verdicts = [(voice.digest, _is_wrong(state, case, voice, voters)) for voice in unsure]
    if any(wrong is None for _, wrong in verdicts):
        return None
    for digest, wrong in verdicts:
        right[digest] = right[digest] or not wrong
    return right


def _word(state: State, case: Case, voice: Voice) -> Nearness | None:
    """What the referee says of a result."""
    job, number, row = case.key
    truth = state.jobs[job].opened[number].truth[row]
    return near(state, case.key, (voice.lease, voice.digest), (REFEREE, truth))


def _is_wrong(state: State, case: Case, voice: Voice, voters: list[Voice]) -> bool | None:
    """What the others' opinions come to; ``None`` while results are being compared."""
    votes: dict[str, Nearness | None] = {}  # {account: its rig's}
    for other in voters:
        account = other.rig.key[0]
        if not other.rig.unrelated(voice.rig, state.policy):
            continue
        word = _word(state, case, other)
        if word is Nearness.FAR:
            continue
        one, another = (voice.lease, voice.digest), (other.lease, other.digest)
        vote = near(state, case.key, one, another) if word is not None else None
        if vote in (None, Nearness.ALIKE) or word is Nearness.ALIKE:
            votes[account] = vote
    if None in votes.values():
        return None
    against = sum(vote is not Nearness.ALIKE for vote in votes.values())
    return against >= QUORUM and against == len(votes)


# ── further opinions ─────────────────────────────────────────────────────────


def _poll(state: State, case: Case, unsure: list[Voice], spoken: set[str]) -> None:
    """Let others compute the row, as a check among their own rows."""
    target = next((state.leases[one.lease] for one in unsure if one.lease in case.claims), None)
    if target is None:
        return  # of a share that was judged nothing more is asked
    for rig in _others(state, case, target, spoken)[:_MORE]:
        check = checks.drawn(state, target, target.find(case.key), case.key, "opinion")
        check.witness = rig
        case.opinions[check.check] = check
        checks.put(state, check)
        state.wake[rig.key] = rig


def _others(state: State, case: Case, target: Lease, spoken: set[str]) -> list[Rig]:
    """Connected rigs that may be asked, one of each account, in an order that only who has the
    epoch's key can foretell: one of the same kind of device, then those of any."""
    job = state.jobs[case.key[0]]

    def order(rig: Rig) -> bytes:
        name = repr((case.key, rig.key)).encode()
        return blake2b(name, key=state.key[:64], digest_size=16).digest()

    found: dict[str, Rig] = {}
    for rig in sorted(state.online(job.model), key=order):
        if rig.key[0] not in spoken and checks.may_check(state, rig, job, target.rig):
            found.setdefault(rig.key[0], rig)
    kin = [rig for rig in found.values() if not set(rig.kinds).isdisjoint(target.rig.kinds)][:1]
    return [*kin, *(rig for rig in found.values() if rig not in kin)]


def heard(state: State, check: Check, lease: Lease, given: bytes) -> None:
    """A rig that was asked for its opinion computed the row."""
    job, number, row = check.key
    block = state.block(job, number)
    case = block.cases.get(row) if block is not None else None
    if case is not None and check.check in case.opinions:
        case.heard.append(Voice(lease.lease, lease.rig, given))
    checks.ended(state, check, "heard", ".".join(lease.rig.key))
