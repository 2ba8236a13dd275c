"""The tables. Times are seconds since the epoch by the pool's clock; money is integer units."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
)

metadata = MetaData()

# SQLite counts rows only in a column that is exactly INTEGER PRIMARY KEY.
_Id = BigInteger().with_variant(Integer, "sqlite")

meta = Table(
    "meta",
    metadata,
    Column("key", String, primary_key=True),  # boot, policy, ...
    Column("value", String, nullable=False),
)

# ── people ────────────────────────────────────────────────────────────────────

account = Table(
    "account",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("role", String, nullable=False),  # miner | customer | operator
    Column("token_hash", String, nullable=False, unique=True),  # SHA-256 of the token, hex
    # Of the token that says where a miner is paid, and opens nothing else.
    Column("payout_token_hash", String, unique=True),
    Column("payout_minimum", BigInteger, nullable=False, default=0),  # units; the miner's own wish
    Column("created", Float, nullable=False),
    Column("closed", Float),
)

# Where accounts want to be paid; ``until`` is when another address took its place.
payee = Table(
    "payee",
    metadata,
    Column("account", String, primary_key=True),
    Column("since", Float, primary_key=True),
    Column("kind", String, nullable=False),  # evm | text
    Column("address", String, nullable=False),
    Column("usable", Float, nullable=False),  # nothing is paid there before
    Column("until", Float),
)

# That somebody has looked at who an account's owner is: where the paper lies, and its hash.
attestation = Table(
    "attestation",
    metadata,
    Column("account", String, primary_key=True),
    Column("reference", String, nullable=False),
    Column("hash", String, nullable=False),  # SHA-256, hex
    Column("at", Float, nullable=False),
)

# Browsers that are signed in: by whom, with which token. Only the cookie's hash is kept.
page_session = Table(
    "page_session",
    metadata,
    Column("id_hash", String, primary_key=True),  # SHA-256, hex
    Column("account", String, nullable=False, index=True),
    Column("token_hash", String, nullable=False),
    Column("opened", Float, nullable=False),
    Column("ends", Float, nullable=False),
)

trust = Table(
    "trust",
    metadata,
    Column("account", String, primary_key=True),
    Column("rig", String, primary_key=True),
    Column("held", BigInteger, nullable=False),
    Column("accepted_rows", BigInteger, nullable=False),
    Column("accepted_work", BigInteger, nullable=False),
    Column("cleared_shares", BigInteger, nullable=False),
    Column("cleared_work", BigInteger, nullable=False),
    Column("rejected_shares", BigInteger, nullable=False),
    Column("isolated", Integer, nullable=False),
    Column("offences", Integer, nullable=False),
    Column("banned_until", Float, nullable=False),
    Column("row_work", BigInteger, nullable=False),  # thousandths
    Column("proved", JSON, nullable=False, default=dict),  # {model: cleared work of others}
    Column("forfeits", Integer, nullable=False, default=0),  # of its held pay, so far
)

# Network blocks of which a rig was banned: their rigs are checked more until then.
network_block = Table(
    "network_block",
    metadata,
    Column("block", String, primary_key=True),
    Column("until", Float, nullable=False),
)

# Kinds of devices that the operator keeps from a model.
quarantine = Table(
    "quarantine",
    metadata,
    Column("kind", String, primary_key=True),  # as rigs name their devices
    Column("model", String, primary_key=True),  # its digest
    Column("since", Float, nullable=False),
    Column("why", String, nullable=False),
)

# ── models and files ─────────────────────────────────────────────────────────

model = Table(
    "model",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", String, nullable=False, unique=True),  # what customers write
    Column("digest", String, nullable=False),  # what rigs are told
    Column("manifest", LargeBinary, nullable=False),  # canonical JSON
    Column("added", Float, nullable=False),
    Column("retired", Float),
)

file = Table(
    "file",
    metadata,
    Column("id", String, primary_key=True),  # file-…
    Column("account", String, nullable=False, index=True),
    Column("purpose", String, nullable=False),  # batch | batch_output
    Column("filename", String, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("object", String, nullable=False),  # name in the object store
    Column("sha256", String, nullable=False),
    Column("status", String, nullable=False),  # uploaded | processed | error | deleted
    Column("status_details", Text),
    Column("created", Float, nullable=False),
    Column("expires", Float),
)

# ── jobs ──────────────────────────────────────────────────────────────────────

job = Table(
    "job",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("batch", String, unique=True),  # batch_…; null for a direct request
    Column("account", String, nullable=False, index=True),
    Column("direct", Boolean, nullable=False, default=False),
    Column("endpoint", String, nullable=False),  # a route of pool.batches.endpoints
    Column("operation", String),  # embed | score | classify | digest
    Column("model_name", String),
    Column("model", String),  # manifest digest
    Column("input_file", String),
    Column("completion_window", String),
    Column("metadata", JSON(none_as_null=True)),
    Column("output_expires_after", Integer),  # seconds
    Column("webhook", String),  # where its customer wants to hear of it
    Column("webhook_told", Boolean, nullable=False, default=False),  # that it is over
    Column("corrections_told", Integer, nullable=False, default=0),
    # validating | in_progress | finalizing | completed | failed | expired | cancelling | cancelled
    Column("state", String, nullable=False, index=True),
    Column("created", Float, nullable=False),
    Column("in_progress_at", Float),
    Column("expires_at", Float),
    Column("finalizing_at", Float),
    Column("completed_at", Float),
    Column("failed_at", Float),
    Column("expired_at", Float),
    Column("cancelling_at", Float),
    Column("cancelled_at", Float),
    Column("closed", String),  # the board's last word: completed | cancelled | expired
    Column("settled", Float),  # when its escrows were emptied
    Column("paid_work", BigInteger, nullable=False, default=0),  # cleared, as settlement has it
    Column("output_file", String),
    Column("error_file", String),
    Column("errors", JSON(none_as_null=True)),  # [{code, line, message, param}]
    Column("lines", BigInteger, nullable=False, default=0),
    Column("lines_refused", BigInteger, nullable=False, default=0),
    Column("lines_completed", BigInteger, nullable=False, default=0),
    Column("lines_failed", BigInteger, nullable=False, default=0),
    Column("tokens", BigInteger, nullable=False, default=0),
    Column("rows", BigInteger, nullable=False, default=0),
    Column("work", BigInteger, nullable=False, default=0),
    Column("blocks", Integer, nullable=False, default=0),
    Column("price", BigInteger, nullable=False, default=0),  # units a unit of work
    Column("pay_reserved", BigInteger, nullable=False, default=0),
    Column("check_reserved", BigInteger, nullable=False, default=0),
    Column("trusted", Boolean, nullable=False, default=False),  # rigs on the operator's list only
    # Each row is checked with this chance at least: what the customer's assurance comes to.
    Column("assurance_ppm", Integer, nullable=False, default=0),
    Column("fee_reserved", BigInteger, nullable=False, default=0),
    # Whether its customer's notifications have heard of its end.
    Column("notified", Boolean, nullable=False, server_default="0"),
)

_unnotified = job.c.batch.is_not(None) & ~job.c.notified
Index("job_unnotified", job.c.state, sqlite_where=_unnotified, postgresql_where=_unnotified)
Index("job_unsettled", job.c.id, sqlite_where=job.c.settled.is_(None))

_untold = job.c.webhook.is_not(None) & ~job.c.webhook_told
Index("job_untold", job.c.id, sqlite_where=_untold, postgresql_where=_untold)

block = Table(
    "block",
    metadata,
    Column("job", ForeignKey("job.id"), primary_key=True),
    Column("no", Integer, primary_key=True),
    Column("object", String, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("work", BigInteger, nullable=False),
    Column("cleared", Boolean, nullable=False, default=False),
)

# What is to be told to customers: see pool.webhooks.
webhook_event = Table(
    "webhook_event",
    metadata,
    Column("id", String, primary_key=True),  # evt_…
    Column("job", ForeignKey("job.id"), nullable=False),
    Column("type", String, nullable=False),  # batch.completed, …
    Column("created", Float, nullable=False),
    Column("body", LargeBinary, nullable=False),  # as it is sent and signed
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_at", Float),  # of the next attempt; null when it is over
    Column("delivered", Float),
    Column("problem", String),  # of the last attempt
)
_due = webhook_event.c.next_at.is_not(None)
Index("webhook_event_due", webhook_event.c.next_at, sqlite_where=_due, postgresql_where=_due)

# ── shares ────────────────────────────────────────────────────────────────────

lease = Table(
    "lease",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("account", String, nullable=False),
    Column("rig", String, nullable=False),
    Column("model", String, nullable=False),
    Column("operation", String, nullable=False),
    Column(
        "segments", LargeBinary, nullable=False
    ),  # MessagePack [[job, block, start, stop, kind]]
    Column("rows", Integer, nullable=False),
    Column("work", BigInteger, nullable=False),
    Column("difficulty", BigInteger, nullable=False),
    Column("issued", Float, nullable=False),
    Column("deadline", Float, nullable=False),
    Column(
        "state", String, nullable=False
    ),  # open | done | expired | released | malformed | cancelled
    Column("fault", String, nullable=False, default="none"),  # none | rig | network | pool
    Column("ended", Float),
    # The share's verdict: open (nothing accepted yet) | accepted | cleared | rejected | void
    Column("verdict", String, nullable=False),
    Column("reason", String),
    Column("forfeit", Boolean, nullable=False, default=False),
    Column("judged", Float),
    # The board's notes on shares of a rig that was wrong once.
    Column("suspect", Boolean, nullable=False, default=False),  # each row that comes is checked
    Column("recount", Integer),  # the referee computes all its rows but this one, found wrong
    # Other rigs of a kind of device are asked for this row, found wrong, before the verdict.
    Column("trial", Integer),
    Column("trial_kind", String),
)
Index("lease_recounted", lease.c.id, sqlite_where=lease.c.recount.is_not(None))
Index("lease_open", lease.c.state, lease.c.verdict)
Index("lease_rig", lease.c.account, lease.c.rig)
# Shares that wait for their verdict: few, among all there ever were.
awaits_verdict = lease.c.verdict == literal_column("'accepted'")
Index("lease_awaits_verdict", lease.c.id, sqlite_where=awaits_verdict)

# Those that a miner may want to know of: few, too.
faulty = (lease.c.verdict == literal_column("'rejected'")) | (
    lease.c.fault != literal_column("'none'")
)
Index("lease_faulty", lease.c.account, lease.c.id, sqlite_where=faulty, postgresql_where=faulty)

part = Table(
    "part",
    metadata,
    Column("lease", ForeignKey("lease.id"), primary_key=True),
    Column("no", Integer, primary_key=True),
    Column("first_row", Integer, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("log", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("digests", LargeBinary, nullable=False),  # 16 bytes a row
    Column("digest", LargeBinary, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("check_rate_ppm", Integer, nullable=False),
    Column("referee_rate_ppm", Integer, nullable=False),
    Column("row_work", BigInteger, nullable=False),  # the rig's ordinary row, thousandths
    Column("why", String, nullable=False),  # held | probation | suspect | no_key
    Column("held", BigInteger, nullable=False),  # units that the rig held when it was drawn from
    Column("price", BigInteger, nullable=False),  # units a unit of work, of that draw
    Column("works", LargeBinary, nullable=False),  # MessagePack [[work, rows]]
    Column("over", LargeBinary, nullable=False),  # MessagePack [[start, stop]]: never drawn
    Column("check_rows", LargeBinary, nullable=False),  # MessagePack [row of the part]
    Column("referee_rows", LargeBinary, nullable=False),
    Column("policy", Integer, nullable=False),
    # MessagePack [[row of the part, row after the last, ppm]]: a least chance for check_rows.
    Column("least", LargeBinary, nullable=False, default=b"\x90"),
    Column("at", Float, nullable=False),
)

won = Table(
    "won",
    metadata,
    Column("job", BigInteger, primary_key=True),
    Column("block", Integer, primary_key=True),
    Column("start", Integer, primary_key=True),
    Column("lease", BigInteger, primary_key=True),
    Column("stop", Integer, nullable=False),
    Column("part", Integer, nullable=False),
    Column("first_row", Integer, nullable=False),  # row of the part
)
Index("won_lease", won.c.lease)

credit = Table(
    "credit",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("lease", ForeignKey("lease.id"), nullable=False),
    Column("part", Integer, nullable=False),
    Column("job", BigInteger, nullable=False),
    Column("kind", String, nullable=False),  # row | check | hedge
    Column("source", String, nullable=False),  # pay | check | reserve
    Column("account", String, nullable=False),
    Column("rig", String, nullable=False),
    Column("work", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("state", String, nullable=False),  # pending | cleared | rejected | forfeited
    Column("posted", String),  # the state that settlement has posted so far
    Column("at", Float, nullable=False),
    Column("judged", Float),
    UniqueConstraint("lease", "part", "job", "kind", "source"),
)
Index("credit_job", credit.c.job, credit.c.state)
Index("credit_account", credit.c.account, credit.c.id)
# Holds everything that the release of held pay asks for.
Index(
    "credit_rig",
    credit.c.account,
    credit.c.rig,
    credit.c.state,
    credit.c.judged,
    credit.c.amount,
)
_unposted = credit.c.posted.is_distinct_from(credit.c.state)
Index(
    "credit_unposted",
    credit.c.state,
    credit.c.id,
    sqlite_where=_unposted,
    postgresql_where=_unposted,
)

check = Table(
    "check_row",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("by", String, nullable=False),  # rig | referee
    Column("lease", BigInteger, nullable=False, index=True),
    Column("part", Integer, nullable=False),
    Column("job", BigInteger, nullable=False),
    Column("block", Integer, nullable=False),
    Column("row", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("outcome", String),
    Column("checker", String),
    Column("ended", Float),
)
Index("check_open", check.c.id, sqlite_where=check.c.outcome.is_(None))

refuted = Table(
    "refuted",
    metadata,
    Column("lease", BigInteger, primary_key=True),
    Column("job", BigInteger, primary_key=True),
    Column("block", Integer, primary_key=True),
    Column("row", Integer, primary_key=True),
    Column("given", LargeBinary, nullable=False),
    Column("expected", LargeBinary, nullable=False),
    Column("offence", Boolean, nullable=False),
    Column("at", Float, nullable=False),
    Column("refunded", Boolean, nullable=False, default=False),  # settlement has looked at it
)

Index("refuted_job", refuted.c.job)
Index("refuted_unrefunded", refuted.c.lease, sqlite_where=~refuted.c.refunded)

# Wrong rows that were put down to a kind of device: the rig's held pay waits for the operator.
excuse = Table(
    "excuse",
    metadata,
    Column("lease", BigInteger, primary_key=True, autoincrement=False),
    Column("account", String, nullable=False, index=True),
    Column("rig", String, nullable=False),
    Column("model", String, nullable=False),  # its digest
    Column("kind", String, nullable=False),
    Column("rows", Integer, nullable=False),  # wrong ones
    Column("price", BigInteger, nullable=False),  # units a unit of work
    Column("at", Float, nullable=False),
    Column("decision", String),  # of the operator: innocent | guilty
    Column("outcome", String),  # the same, once it has been carried out
    Column("decided", Float),
)

appeal = Table(
    "appeal",
    metadata,
    Column("lease", BigInteger, primary_key=True, autoincrement=False),
    Column("account", String, nullable=False),
    Column("rig", String, nullable=False),
    Column("opened", Float, nullable=False),
    Column("outcome", String),  # upheld | overturned
    Column("decided", Float),
    Column("units", BigInteger, nullable=False, default=0),  # what is to be given back
    Column("paid", BigInteger, nullable=False, default=0),  # of these, posted
)
_undecided = appeal.c.outcome.is_(None)
Index("appeal_open", appeal.c.opened, sqlite_where=_undecided, postgresql_where=_undecided)
_owed = appeal.c.paid < appeal.c.units
Index("appeal_owed", appeal.c.lease, sqlite_where=_owed, postgresql_where=_owed)
Index("appeal_account", appeal.c.account, appeal.c.opened)

# Keys of epochs are made backwards from a secret seed: see shares.trust.epochkeys.
chain = Table(
    "chain",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("seed", LargeBinary, nullable=False),  # its last key
    Column("length", Integer, nullable=False),
    Column("anchor", LargeBinary, nullable=False),  # public from the start
)

epoch = Table(
    "epoch",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("chain", ForeignKey("chain.id"), nullable=False),
    Column("place", Integer, nullable=False),  # of its key in the chain, from 1
    Column("key", LargeBinary, nullable=False),  # published after
    # What parts are sampled by: see shares.trust.sampling.
    Column("policy", Integer, nullable=False),
    Column("kappa", Integer, nullable=False),
    Column("check_floor_ppm", Integer, nullable=False),
    Column("referee_floor_ppm", Integer, nullable=False),
    Column("neighbour_floor_ppm", Integer, nullable=False),
    Column("opens", Float, nullable=False),
    Column("closes", Float),
)

# ── receipts ─────────────────────────────────────────────────────────────────

# One a commit group that accepted parts: shares.receipts says what is hashed and signed.
root = Table(
    "root",
    metadata,
    Column("sequence", _Id, primary_key=True, autoincrement=False),  # from 1, without gaps
    Column("leaves", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),  # microseconds
    Column("root", LargeBinary, nullable=False),
    Column("previous", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)

Index("root_at", root.c.at)

# A leaf's place; its rows, digest and time are its part's.
receipt = Table(
    "receipt",
    metadata,
    Column("sequence", BigInteger, primary_key=True),
    Column("index", Integer, primary_key=True),
    Column("lease", BigInteger, nullable=False),
    Column("part", Integer, nullable=False),
    Column("work", BigInteger, nullable=False),  # credited with the part
    Column("account", String, nullable=False),
)
Index("receipt_account", receipt.c.account, receipt.c.sequence)

# ── money ─────────────────────────────────────────────────────────────────────

referee_run = Table(
    "referee_run",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("job", BigInteger, nullable=False),
    Column("work", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("posted", Boolean, nullable=False, default=False),
)
Index("referee_run_job", referee_run.c.job)

forfeit = Table(
    "forfeit",
    metadata,
    Column("account", String, primary_key=True),
    Column("rig", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("reason", String, nullable=False),  # offence | wrong_row
    Column("lease", BigInteger, nullable=False),
    Column("units", BigInteger, nullable=False),
    Column("at", Float, nullable=False),
    Column("posted", Boolean, nullable=False, default=False),
)
Index("forfeit_unposted", forfeit.c.at, sqlite_where=~forfeit.c.posted)

# Holds of closed accounts that the referee computed again and found right.
hold_check = Table(
    "hold_check",
    metadata,
    Column("account", String, primary_key=True),
    Column("rig", String, primary_key=True),
    Column("rows", Integer, nullable=False),
    Column("at", Float, nullable=False),
)

# Double entry: the amounts of one transaction add up to zero. Only ever added to.
entry = Table(
    "entry",
    metadata,
    Column("seq", _Id, primary_key=True, autoincrement=False),  # from 1, without gaps
    Column("txn", BigInteger, nullable=False, index=True),  # the same
    Column("kind", String, nullable=False),
    Column("ref", String, nullable=False, index=True),
    Column("account_code", String, nullable=False, index=True),
    Column("amount", BigInteger, nullable=False),
    Column("at", Float, nullable=False),
    Column("hash", LargeBinary, nullable=False),  # over this entry and the hash before it
    UniqueConstraint("kind", "ref", "account_code"),
)

# What the entries of each account code add up to, kept by the same transactions.
balance = Table(
    "balance",
    metadata,
    Column("account_code", String, primary_key=True),
    Column("units", BigInteger, nullable=False),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("at", Float, nullable=False),
    Column("actor", String, nullable=False),
    Column("what", Text, nullable=False),
)

# ── hardware ─────────────────────────────────────────────────────────────────

# What was cleared of the shares of rigs with one kind of device: see pool.hardware.
hardware = Table(
    "hardware",
    metadata,
    Column("kind", String, primary_key=True),  # as rigs name their devices
    Column("model", String, primary_key=True),  # its digest
    Column("rows", BigInteger, nullable=False),
    Column("work", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),  # of devices with a share in hand
    Column("joules", Float, nullable=False),  # as rigs report them
    Column("joules_work", BigInteger, nullable=False),  # work that they were reported for
)

# ── the pool over time ───────────────────────────────────────────────────────

# What the pages' charts show: see pool.history.
moment = Table(
    "moment",
    metadata,
    Column("at", Float, primary_key=True),
    Column("rate", Float, nullable=False),  # work a second, as the board measures it
    Column("rigs", Integer, nullable=False),
    Column("jobs", Integer, nullable=False),
    Column("open_work", BigInteger, nullable=False),  # not leased
    # Since the moment before:
    Column("accepted_work", BigInteger, nullable=False),
    Column("shares_cleared", Integer, nullable=False),
    Column("shares_rejected", Integer, nullable=False),
)

# ── notifications: see pool.notices ──────────────────────────────────────────

# What an account wants to hear of, and where. Mail goes to confirmed addresses only.
notice_wish = Table(
    "notice_wish",
    metadata,
    Column("account", String, primary_key=True),
    Column("webhook", String),
    Column("email", String),
    Column("confirmed", Boolean, nullable=False),
    Column("code_hash", String),  # of what the first mail to the address carried
    Column("code_at", Float),
    Column("events", JSON, nullable=False),  # of pool.store.notices.EVENTS
    Column("per_hour", Integer, nullable=False),
)

# Something that happened, until a message tells of it. "operator" is the operator's account here.
notice = Table(
    "notice",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("account", String, nullable=False, index=True),
    Column("kind", String, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("at", Float, nullable=False),
)

notice_message = Table(
    "notice_message",
    metadata,
    Column("id", String, primary_key=True),  # evt_…
    Column("account", String, nullable=False),
    Column("channel", String, nullable=False),  # webhook | email
    Column("address", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("body", LargeBinary, nullable=False),  # as it is sent
    Column("made", Float, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_at", Float),  # of the next attempt; null when it is over
    Column("problem", String),  # of the last attempt
)
_sendable = notice_message.c.next_at.is_not(None)
Index("notice_due", notice_message.c.next_at, sqlite_where=_sendable, postgresql_where=_sendable)
Index("notice_made", notice_message.c.account, notice_message.c.made)

# ── schemes of pay other than the proportional one ───────────────────────────

# Released pay that went to the pot, in its order: by the last of it a round is divided (pplns).
pot_share = Table(
    "pot_share",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("account", String, nullable=False),
    Column("units", BigInteger, nullable=False),
    Column("at", Float, nullable=False),
)

pot_round = Table(
    "pot_round",
    metadata,
    Column("number", _Id, primary_key=True, autoincrement=False),  # its time / round_seconds
    Column("at", Float, nullable=False),
    Column("units", BigInteger, nullable=False),
    Column("window", BigInteger, nullable=False),  # units that counted: less while it fills
    Column("last", BigInteger, nullable=False),  # the newest pot_share that counted
)

fraction = Table(
    "fraction",
    metadata,
    Column("account", String, primary_key=True),
    Column("parts", BigInteger, nullable=False),  # shares.money.apportion.PARTS are a unit
)

# What the reserve has paid a rig for shares before their verdict and not got back yet (pps).
advance = Table(
    "advance",
    metadata,
    Column("account", String, primary_key=True),
    Column("rig", String, primary_key=True),
    Column("units", BigInteger, nullable=False),
)

# ── payouts ──────────────────────────────────────────────────────────────────

payout_round = Table(
    "payout_round",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("opened", Float, nullable=False),
    Column("closed", Float),  # every account has been looked at
)

payout = Table(
    "payout",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("key", String, nullable=False, unique=True),  # what the far side knows it by
    Column("round", ForeignKey("payout_round.id"), nullable=False),
    Column("account", String, nullable=False),
    Column("units", BigInteger, nullable=False),
    Column("kind", String, nullable=False),  # of the address
    Column("address", String, nullable=False),
    # reserved | submitting | submitted | finalised | retryable | manual | returned
    Column("state", String, nullable=False),
    Column("version", Integer, nullable=False, default=0),  # steps so far: compare and swap
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_at", Float),  # of the next look at it; null: a person's turn, or over
    Column("carrier", String),  # that handed it over, or is about to
    Column("document", String),  # the object that says to pay it, where there is one
    Column("reference", String),  # the far side's
    Column("reason", String),  # why it waits, or came back
    Column("created", Float, nullable=False),
    Column("changed", Float, nullable=False),
    Column("notified", String, nullable=False, server_default=""),  # the state last told of
    UniqueConstraint("round", "account"),
)
Index("payout_state", payout.c.state, payout.c.id)
Index("payout_account", payout.c.account, payout.c.id)

# Why an account with enough to be paid was not: what its miner is told.
payout_wait = Table(
    "payout_wait",
    metadata,
    Column("account", String, primary_key=True),
    Column("reason", String, nullable=False),
    Column("since", Float, nullable=False),
)
