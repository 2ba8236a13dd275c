"""The operator's settings: ``pool.toml``, read strictly, with every default in one place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from pool.accounts import AccountError, check_name, split_user
from shares.board import Policy

FILE_NAME = "pool.toml"

_Positive = Annotated[int, msgspec.Meta(ge=1)]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Ppm = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]
_MIB = 1 << 20


class ConfigError(Exception):
    """The settings cannot be used; the text names the field and the remedy."""


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class StratumConfig(_Section, frozen=True, kw_only=True):
    """Where rigs connect, and what a stranger may cost before and after it is known."""

    listen: str = "127.0.0.1:3333"
    tls_certificate: str = ""
    tls_key: str = ""
    authorise_seconds: _Seconds = 15.0
    keepalive_seconds: _Seconds = 60.0
    max_frame_bytes: _Positive = 8 * _MIB
    max_buffered_bytes: _Positive = 64 * _MIB
    max_connections: _Positive = 10_000
    max_connections_per_address: _Positive = 256


class HttpConfig(_Section, frozen=True, kw_only=True):
    """Where customers, pages and model downloads are served."""

    listen: str = "127.0.0.1:8080"
    public_url: str = ""
    max_upload_bytes: _Positive = 16 << 30
    direct_timeout_seconds: _Seconds = 60.0
    webhooks_anywhere: bool = False
    public_names: bool = True


class SharesConfig(_Section, frozen=True, kw_only=True):
    """How large shares are."""

    target_seconds: _Seconds = 10.0
    window_seconds: _Seconds = 20.0
    initial_difficulty: _Positive = 20_000
    min_difficulty: _Positive = 1
    max_difficulty: _Positive = 1_000_000_000
    max_rows: _Positive = 4096
    lease_min_seconds: _Seconds = 30.0
    disconnect_grace_seconds: _Seconds = 15.0


class TrustConfig(_Section, frozen=True, kw_only=True):
    """How much is checked, and what follows from a wrong row."""

    kappa: _Positive = 2
    floor_ppm: _Ppm = 10_000
    referee_floor_ppm: _Ppm = 1_000
    neighbour_floor_ppm: _Ppm = 100_000
    probation_shares: _Count = 8
    clearing_seconds: _Seconds = 10.0
    check_patience_seconds: _Seconds = 20.0
    hold_seconds: _Seconds = 86_400.0
    ban_seconds: _Seconds = 3_600.0
    epoch_seconds: Annotated[float, msgspec.Meta(ge=60)] = 3_600.0
    admission_ppm: _Ppm = 10_000
    separate_networks: bool = True
    trusted: tuple[str, ...] = ()


class MoneyConfig(_Section, frozen=True, kw_only=True):
    """What a unit of work costs. All integers; rates in parts per million."""

    price: _Positive = 1
    levy_ppm: _Ppm = 30_000
    fee_ppm: _Ppm = 20_000
    referee_cap_ppm: _Ppm = 200_000
    settle_seconds: _Seconds = 1.0
    scheme: Literal["proportional", "pplns", "pps"] = "proportional"
    round_seconds: Annotated[int, msgspec.Meta(ge=60)] = 3_600
    pplns_window: _Positive = 1_000_000_000


class PolicyConfig(_Section, frozen=True, kw_only=True):
    """One of the operator's rules about payouts, with its settings."""

    name: str
    settings: dict[str, Any] = {}


class PayoutsConfig(_Section, frozen=True, kw_only=True):
    """How and when miners are paid."""

    carrier: Literal["none", "csv", "json", "http", "claims"] = "none"
    address: Literal["text", "evm"] = "text"
    minimum: _Positive = 1_000_000
    every_seconds: Annotated[float, msgspec.Meta(ge=1)] = 86_400.0
    address_hold_seconds: _Seconds = 86_400.0
    multiplier: _Positive = 1
    url: str = ""
    secret_file: str = ""
    policies: tuple[PolicyConfig, ...] = ()


class BatchesConfig(_Section, frozen=True, kw_only=True):
    """What a customer may hand in."""

    max_lines: _Positive = 100_000_000
    max_line_bytes: _Positive = 8 * _MIB
    completion_window_seconds: _Seconds = 86_400.0
    workers: _Positive = 1


class RefereeConfig(_Section, frozen=True, kw_only=True):
    """The pool's own engine."""

    threads: _Count = 0
    rows_per_run: _Positive = 64
    rigs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


class NotificationsConfig(_Section, frozen=True, kw_only=True):
    """How accounts and the operator hear of things."""

    operator_webhook: str = ""
    operator_email: str = ""
    alerts_secret_file: str = ""
    per_hour: Annotated[int, msgspec.Meta(ge=1, le=60)] = 10
    offline_after_seconds: Annotated[float, msgspec.Meta(ge=1)] = 300.0
    smtp_host: str = ""
    smtp_port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 587
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str = ""
    smtp_password_file: str = ""
    smtp_from: str = ""


class MetricsConfig(_Section, frozen=True, kw_only=True):
    """What Prometheus is told beyond what has a bound by itself."""

    top_rigs: _Count = 0


class Config(_Section, frozen=True, kw_only=True):
    """All of ``pool.toml``."""

    data: str = "."
    stratum: StratumConfig = StratumConfig()
    http: HttpConfig = HttpConfig()
    shares: SharesConfig = SharesConfig()
    trust: TrustConfig = TrustConfig()
    money: MoneyConfig = MoneyConfig()
    payouts: PayoutsConfig = PayoutsConfig()
    batches: BatchesConfig = BatchesConfig()
    referee: RefereeConfig = RefereeConfig()
    metrics: MetricsConfig = MetricsConfig()
    notifications: NotificationsConfig = NotificationsConfig()
    builtin_models: bool = True
    commit_high_water_bytes: _Positive = 64 * _MIB
    log_level: str = "info"

    def policy(self) -> Policy:
        """The board's rules from these settings."""
        shares, trust = self.shares, self.trust
        return Policy(
            kappa=trust.kappa,
            check_floor_ppm=trust.floor_ppm,
            referee_floor_ppm=trust.referee_floor_ppm,
            neighbour_floor_ppm=trust.neighbour_floor_ppm,
            probation_shares=trust.probation_shares,
            clearing_seconds=trust.clearing_seconds,
            check_patience_seconds=trust.check_patience_seconds,
            hold_seconds=trust.hold_seconds,
            ban_seconds=trust.ban_seconds,
            admission_ppm=trust.admission_ppm,
            separate_groups=trust.separate_networks,
            trusted=frozenset(trust.trusted),
            target_share_seconds=shares.target_seconds,
            window_seconds=shares.window_seconds,
            initial_difficulty=shares.initial_difficulty,
            min_difficulty=shares.min_difficulty,
            max_difficulty=shares.max_difficulty,
            max_share_rows=shares.max_rows,
            referee_cap_ppm=self.money.referee_cap_ppm,
            lease_min_seconds=shares.lease_min_seconds,
            disconnect_grace_seconds=shares.disconnect_grace_seconds,
        )


def read_config(path: Path) -> tuple[Config, Path]:
    """Read ``path`` (the file, or the folder that holds it).

    Returns the settings and the folder that everything is kept under. Raises ``ConfigError``.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{file} does not exist; make one with: inferpool init DIR") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None
    return parse_config(text, str(file)), data_folder(file, text)


def parse_config(text: str, name: str = FILE_NAME) -> Config:
    """Read settings from TOML text. Raises ``ConfigError`` naming the field."""
    try:
        config = msgspec.toml.decode(text, type=Config)
    except msgspec.ValidationError as error:
        field = re.search(r"`\$\.?([^`]*)`", str(error))
        where = f" (field {field[1]})" if field and field[1] else ""
        raise ConfigError(
            f"{name}: {error}{where}; `inferpool init` writes every field with its default"
        ) from None
    except msgspec.DecodeError as error:
        raise ConfigError(f"{name} is not TOML: {error}") from None
    if config.log_level not in {"debug", "info", "warning", "error"}:
        raise ConfigError(f"{name}: log_level must be debug, info, warning or error")
    if bool(config.stratum.tls_certificate) != bool(config.stratum.tls_key):
        raise ConfigError(f"{name}: stratum.tls_certificate and stratum.tls_key go together")
    for trusted in config.trust.trusted:
        try:
            check_name(trusted) if "." not in trusted else split_user(trusted)
        except (AccountError, ValueError):
            raise ConfigError(
                f"{name}: trust.trusted names {trusted[:80]!r}: write accounts or ACCOUNT.RIG, "
                'such as ["alice", "bob.rig1"]'
            ) from None
    for rig in config.referee.rigs:
        try:
            split_user(rig)
        except ValueError:
            raise ConfigError(
                f"{name}: referee.rigs names {rig[:80]!r}: write ACCOUNT.RIG, such as "
                '["house.judge"]'
            ) from None
    payouts = config.payouts
    if payouts.carrier == "claims" and payouts.address != "evm":
        raise ConfigError(f'{name}: payouts.carrier "claims" needs payouts.address = "evm"')
    if payouts.carrier == "http" and not payouts.url.startswith(("https://", "http://")):
        raise ConfigError(f"{name}: payouts.url must begin with https:// (or http://)")
    if payouts.carrier == "http" and not payouts.secret_file:
        raise ConfigError(f"{name}: payouts.secret_file must name a file with the shared secret")
    notes = config.notifications
    if notes.smtp_host and "@" not in notes.smtp_from:
        raise ConfigError(
            f"{name}: notifications.smtp_from must be an address, such as pool@example.org"
        )
    if notes.operator_email and not notes.smtp_host:
        raise ConfigError(f"{name}: notifications.operator_email needs notifications.smtp_host")
    if bool(notes.smtp_user) != bool(notes.smtp_password_file):
        raise ConfigError(
            f"{name}: notifications.smtp_user and notifications.smtp_password_file go together"
        )
    if bool(config.referee.rigs) != bool(config.referee.models):
        raise ConfigError(f"{name}: referee.rigs and referee.models go together")
    return config


def data_folder(file: Path, text: str) -> Path:
    """Where the pool keeps everything: ``data``, relative to the file's own folder."""
    return (file.parent / parse_config(text, str(file)).data).resolve()


TEMPLATE = """\
# inferpool: every setting of this pool, with its default. A field that is left out keeps it.

# Where everything is kept: database, results, uploads, models. Relative to this file.
data = "."
# debug, info, warning or error; `inferpool log-level` changes it while the pool runs.
log_level = "info"
# Offer the model without weights (blake2b) that clients and load tests use.
builtin_models = true
# Bytes of results that may wait for the disk before no more shares are cut.
commit_high_water_bytes = 67108864

[stratum]
# Where rigs connect. 0.0.0.0:3333 opens it to the network; use TLS there.
listen = "127.0.0.1:3333"
# PEM files, relative to this file. Both or none; with them rigs use stratum+ssl://.
tls_certificate = ""
tls_key = ""
# A connection that is not authorised after this time is closed.
authorise_seconds = 15.0
# A silent rig is asked for a sign of life after this time, and dropped after three of them.
keepalive_seconds = 60.0
max_frame_bytes = 8388608
# A rig that does not read is dropped when this much waits for it.
max_buffered_bytes = 67108864
max_connections = 10000
max_connections_per_address = 256

[http]
# Where customers bring batches and rigs fetch models.
listen = "127.0.0.1:8080"
# How rigs reach the HTTP side when it is not the host they dialled, such as
# "https://pool.example.org". Empty: the same host, the port above.
public_url = ""
max_upload_bytes = 17179869184
# A direct request that is not done by then is refused and refunded.
direct_timeout_seconds = 60.0
# Let customers name webhooks without TLS, and on addresses that are not public. Whoever may bring
# batches can then have this machine send requests into your own network.
webhooks_anywhere = false
# Show the names of accounts and rigs to whoever looks at the status and at the pages. false: only
# to themselves and to operators.
public_names = true

[shares]
# A share should keep a rig busy for this long, and this much work be in its hands.
target_seconds = 10.0
window_seconds = 20.0
# Work in a rig's first share; vardiff takes over from there.
initial_difficulty = 20000
min_difficulty = 1
max_difficulty = 1000000000
max_rows = 4096
# No lease is shorter than this.
lease_min_seconds = 30.0
# A rig that lost its connection may come back to its shares within this time.
disconnect_grace_seconds = 15.0

[trust]
# Rows are checked at min(1, max(floor, kappa / held pay in rows)): who has nothing to lose is
# checked in full. Parts per million.
kappa = 2
floor_ppm = 10000
# The referee's own sample has a floor of its own.
referee_floor_ppm = 1000
# Where a rig was banned, the others of its network block are checked at this floor for a day.
neighbour_floor_ppm = 100000
# A rig's first work of a model is checked in full, this many first shares of it, in small shares.
probation_shares = 8
# While established rigs could soon do all there is, all rigs on probation together get no more than
# this part of the work in rigs' hands (one share is always allowed). 1000000: no limit.
admission_ppm = 10000
# A share of which no row was drawn clears after this time.
clearing_seconds = 10.0
# A check that no rig takes up by then goes to the referee.
check_patience_seconds = 20.0
# Cleared pay above the minimum hold becomes available after this time.
hold_seconds = 86400.0
# The first ban; each further one is twice as long.
ban_seconds = 3600.0
# How long one secret sampling key serves.
epoch_seconds = 3600.0
# No rig checks one of its own network block (IPv4 /24, IPv6 /48; this machine itself is exempt).
# Turn it off where all rigs stand in one network; else the pool's own engine does all checks.
separate_networks = true
# Rigs to which customers may keep a batch ("trusted"): accounts, or single rigs as ACCOUNT.RIG.
trusted = []

[money]
# Units a unit of work (a million multiply-accumulates). Money is whole units everywhere.
price = 1
# What a batch pays on top, in parts per million: for checks, and for the operator.
levy_ppm = 30000
fee_ppm = 20000
# At most this part of the levy may pay for the referee's runs.
referee_cap_ppm = 200000
# How often accepted work is turned into ledger entries.
settle_seconds = 1.0
# How pay is divided: "proportional" (each unit of verified work has its price), "pplns" (released
# pay is pooled, and each round divides the pot over the last pplns_window units of work), or "pps"
# (the reserve pays accepted shares of rigs with their minimum hold at once, and carries the risk).
# A window should be the work of 20 rounds or more: what a miner gains by choosing its hours is a
# round's part of it. `inferpool lab --config .` shows what each scheme would have paid.
scheme = "proportional"
round_seconds = 3600
pplns_window = 1000000000

[payouts]
# How miners are paid: "csv" or "json" (a document for a treasurer), "http" (an endpoint of yours),
# "claims" (a Merkle claim tree for a contract), or "none".
carrier = "none"
# What an address is: "text" (whatever your treasurer reads) or "evm" (0x…, with its checksum).
address = "text"
# Who has less than this (units), or less than the miner wishes, waits for a later round.
minimum = 1000000
every_seconds = 86400.0
# A changed address is used only after this time.
address_hold_seconds = 86400.0
# What one unit is in the smallest unit of what you pay in.
multiplier = 1
# Of "http": where, and a file with the secret that signs requests, relative to this file.
url = ""
secret_file = ""
# Rules that are asked before each payout, such as
# [{name = "block-list", settings = {file = "/etc/inferpool/blocked.txt"}},
#  {name = "cap", settings = {units = 1000000000, days = 30}}]
policies = []

[batches]
max_lines = 100000000
max_line_bytes = 8388608
# A batch that is not done by then expires; what is done is delivered.
completion_window_seconds = 86400.0
# Processes that read batches; as many more write results.
workers = 1

[referee]
# Threads of the pool's own engine. 0: one for each processor.
threads = 0
rows_per_run = 64
# Models too large for this machine ("models", by name), and your own rigs that compute what the
# referee is asked of them instead ("rigs", as ACCOUNT.RIG): ordinary workers with the token of such
# an account. Their word is final, and whoever has the token is the judge: let them dial over TLS.
# They get no shares of customers' batches and are not paid. Both or none.
rigs = []
models = []

[metrics]
# Tell the rates of so many of the fastest rigs by name (inferpool_top_rig_rate). Prometheus keeps a
# series for each rig that ever was among them.
top_rigs = 0

[notifications]
# Miners and customers say themselves what they want to hear of (docs/API.md). These are yours:
# alerts that Alertmanager passes on to POST /api/v1/alerts with the secret in this file as its
# bearer token, a ledger that is not right, payouts that wait for you. Webhooks are signed with the
# pool's key.
operator_webhook = ""
operator_email = ""
alerts_secret_file = ""
# Messages an hour for you, at most; what is more is told in one summary. Accounts choose their own.
per_hour = 10
# A rig counts as offline when it has not been connected for this long.
offline_after_seconds = 300.0
# How mail is sent; without a host there is none. smtp_security: starttls, tls, or none (on this
# machine only, please).
smtp_host = ""
smtp_port = 587
smtp_security = "starttls"
smtp_user = ""
smtp_password_file = ""
smtp_from = ""
"""
