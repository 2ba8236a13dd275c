"""What may stand in a log: no secrets, one line, failures without others' words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pool.accounts import PAYOUT_TOKEN_PREFIX, TOKEN_PREFIX, new_token
from stratum.logtext import escaped, failure_text, hidden, plain, plain_facts

TOKEN = "ip__oluHtNcDlJZETPfBpysnBH7pmwT8g9eWgWULC85yX8"
PAYOUT_TOKEN = "ipp_nmzNP54mIQqRxDerduJieqOspCrJW-gLJ3Ef2buMeVQ"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"the token {TOKEN} opens nothing", TOKEN),
        (f"x{TOKEN}", TOKEN),
        (f"%20{PAYOUT_TOKEN}", PAYOUT_TOKEN),
        (f"\n{TOKEN}", TOKEN),
        ("Authorization: Bearer hunter2", "hunter2"),
        ("{'authorization': 'Bearer hunter2'}", "hunter2"),
        ("(b'authorization', b'Basic aHVudGVyMg==')", "aHVudGVyMg"),
        ("sent Bearer abcdef012345", "abcdef012345"),
        ("GET /hook?a=1&token=hunter2&b=2", "hunter2"),
        ("hf_" + "Ab1" * 10, "Ab1Ab1"),
        ("sk-" + "Ab1" * 10, "Ab1Ab1"),
        ("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n", "MHcCAQEE"),
        ("write to bob.smith@mail.example.org now", "bob.smith"),
    ],
)
def test_secrets_of_known_shapes_are_hidden_wherever_they_stand(text: str, secret: str) -> None:
    for given in (text, [text], {"a": (text,)}, text.encode(), {text: 1}):
        told = repr(plain(given))
        assert secret not in told
        assert "***" in told


def test_every_token_that_the_pool_makes_is_hidden() -> None:
    for prefix in (TOKEN_PREFIX, PAYOUT_TOKEN_PREFIX):
        for _ in range(100):
            assert hidden(f"a {new_token(prefix)}, b") == "a ***, b"


@pytest.mark.parametrize(
    "text",
    [
        "authorization refused",
        "https://pool.example.org:8080/v1/batches/batch_0123456789abcdef0123456789abcdef",
        "req_0123456789abcdef0123456789abcdef",
        "inferpool payouts list --state manual",
        "stratum+tcp://127.0.0.1:3333",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert hidden(text) == text


def test_facts_that_are_called_secret_are_hidden_whatever_they_are() -> None:
    told = plain_facts({"token": "t", "Body": b"b", "more": {"secret": 1, "tokens": 7}, "n": 1})

    assert told == {"token": "***", "Body": "***", "more": {"secret": "***", "tokens": 7}, "n": 1}


def test_long_and_odd_values_become_short_and_plain() -> None:
    assert len(plain("x" * 10_000)) < 2_100
    assert plain([np.int64(3), np.float32(0.5), None, True]) == [3, 0.5, None, True]
    assert "object" in plain(object())


def test_hostile_text_costs_no_more_than_other_text() -> None:
    """Each part of the pattern that repeats is bounded: with the square this would not end."""
    for piece in ("a", "a.", "authorization ", "-----BEGIN "):
        assert hidden(piece * 100_000) == piece * 100_000


def test_what_a_terminal_obeys_is_escaped() -> None:
    assert escaped("grüße, 世界") == "grüße, 世界"
    assert escaped("a\nb\r\x1b[31m\x9b\u2028\u202e\ud800\x7f").isprintable()


def raised(message: str) -> BaseException:
    def failing() -> None:
        raise ValueError(message)

    try:
        failing()
    except ValueError as error:
        return error
    raise AssertionError


def test_a_failure_tells_types_and_places_and_no_words() -> None:
    try:
        try:
            raise raised("the customer's text\nand more")
        except ValueError as error:
            raise ExceptionGroup("the group's text", [LookupError("text too")]) from error
    except ExceptionGroup as group:
        told = failure_text(group, words=False)

    assert "text" not in told.replace("test_logtext", "")
    assert "\n" not in told
    for part in (
        "ExceptionGroup at",
        "LookupError",
        "ValueError at",
        "test_logtext.py:",
        "failing",
    ):
        assert part in told
    assert "the customer's text" in failure_text(raised("the customer's text"), words=True)


def test_what_the_system_says_is_told() -> None:
    with pytest.raises(OSError) as caught:
        Path("/nowhere/at/all").read_bytes()

    assert "No such file" in failure_text(caught.value, words=False)


def test_a_failure_that_causes_itself_ends() -> None:
    one, other = ValueError(), KeyError()
    one.__context__, other.__context__ = other, one

    assert failure_text(one, words=False) == "ValueError; from KeyError"
