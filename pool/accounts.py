"""Accounts: their names, and the tokens that open them."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass

ROLES = ("miner", "customer", "operator")
RESERVED = frozenset({"reserve", "operator", "referee"})
TOKEN_PREFIX = "ip_"  # noqa: S105 (what every token begins with is no secret)
PAYOUT_TOKEN_PREFIX = "ipp_"  # noqa: S105

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


class AccountError(Exception):
    """An account cannot be made or changed as asked; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """One account, without its token (of which only the hash is kept)."""

    id: int
    name: str
    role: str  # miner | customer | operator
    created: float
    closed: float | None


def check_name(name: str) -> str:
    """Return ``name``. Raises ``AccountError`` unless an account may be called so."""
    if not _NAME.fullmatch(name):
        raise AccountError(
            f"account name {name!r}: use 1 to 32 of a-z, 0-9, '_' and '-', "
            "beginning with a letter or digit (a dot divides account from rig)"
        )
    if name in RESERVED:
        raise AccountError(f"account name {name!r} has a meaning of its own: choose another")
    return name


def check_role(role: str) -> str:
    """Return ``role``. Raises ``AccountError`` when there is no such role."""
    if role not in ROLES:
        raise AccountError(f"role {role!r}: use one of {', '.join(ROLES)}")
    return role


def split_user(user: str) -> tuple[str, str]:
    """``ACCOUNT.RIG`` to its two names. Raises ``ValueError`` saying what is wrong with it.

    Both follow the rule of account names: no dots, so the parts cannot be confused.
    """
    account, dot, rig = user.partition(".")
    if not dot or not _NAME.fullmatch(account) or not _NAME.fullmatch(rig):
        raise ValueError(
            f"user {user[:80]!r}: write ACCOUNT.RIG, each 1 to 32 of a-z, 0-9, '_' and '-', "
            "beginning with a letter or digit"
        )
    return account, rig


def new_token(prefix: str = TOKEN_PREFIX) -> str:
    """A fresh token: 256 random bits."""
    return prefix + secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """What is kept of a token: its SHA-256 in hex.

    Looking a hash up leaks no time about the token: an attacker cannot steer its bits.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
