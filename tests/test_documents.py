"""The documents say what is true of the command line."""

from __future__ import annotations

from documents import problems


def test_every_command_and_link_in_the_documents_exists() -> None:
    """A reader can type what the documents say."""
    assert problems() == []
