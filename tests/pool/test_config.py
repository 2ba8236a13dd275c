"""pool.toml is complete, strict, and says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pool.config import TEMPLATE, Config, ConfigError, parse_config, read_config


def test_the_template_is_the_defaults() -> None:
    """What `init` writes changes nothing."""
    assert parse_config(TEMPLATE) == Config()


def test_the_template_is_complete() -> None:
    """Every field of every section is written, so that an operator sees all there is."""
    written = msgspec.toml.decode(TEMPLATE)
    known = msgspec.to_builtins(Config())

    assert {name: set(value) for name, value in known.items() if isinstance(value, dict)} == {
        name: set(value) for name, value in written.items() if isinstance(value, dict)
    }
    assert set(known) == set(written)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[stratum]\nlisten = 3333", "stratum.listen"),
        ("[money]\nlevy_ppm = 1000001", "money.levy_ppm"),
        ("[money]\nprice = 0", "money.price"),
        ("[trust]\nkapa = 2", "kapa"),
    ],
)
def test_a_wrong_field_is_named(text: str, field: str) -> None:
    """The operator reads which field it is and where to look it up."""
    with pytest.raises(ConfigError) as error:
        parse_config(text)

    assert field in str(error.value)
    assert "inferpool init" in str(error.value)


def test_half_a_certificate_is_refused() -> None:
    """TLS needs both files; a pool must not start in the clear by mistake."""
    with pytest.raises(ConfigError, match="go together"):
        parse_config('[stratum]\ntls_certificate = "a.pem"')


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    """A first-time operator is told what to type."""
    with pytest.raises(ConfigError, match="inferpool init"):
        read_config(tmp_path / "pool.toml")


def test_data_is_relative_to_the_file(tmp_path: Path) -> None:
    """The pool keeps its data beside its settings, wherever it is started from."""
    (tmp_path / "pool.toml").write_text('data = "kept"')

    _, folder = read_config(tmp_path)

    assert folder == (tmp_path / "kept").resolve()


def test_every_setting_of_the_board_is_accepted_by_its_policy() -> None:
    """The defaults make a policy."""
    policy = Config().policy()

    assert policy.kappa == Config().trust.kappa
    assert policy.initial_difficulty == Config().shares.initial_difficulty
