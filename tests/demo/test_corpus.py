"""The demo's texts: enough of them, the same each time, and prose."""

from __future__ import annotations

import pytest

from pool.demo.corpus import LONGEST, SHORTEST, CorpusError, prose, read_corpus


@pytest.fixture(scope="module")
def corpus():
    return read_corpus()


def test_this_python_gives_a_thousand_paragraphs_and_more(corpus):
    """The demo's default of 1,000 rows is there with room to spare."""
    assert len(corpus) >= 1_000


def test_no_text_and_no_place_comes_twice(corpus):
    """Results are told apart by place, and equal texts would make the search dull."""
    assert len({p.text.casefold() for p in corpus}) == len(corpus)
    assert len({p.place for p in corpus}) == len(corpus)


def test_paragraphs_are_sentences_of_bounded_length(corpus):
    """No code, no lists, no tables: what is embedded is prose on one line."""
    assert all(SHORTEST <= len(p.text) <= LONGEST for p in corpus)
    assert not [p.text for p in corpus if ">>>" in p.text or "\n" in p.text]


def test_fewer_rows_are_spread_over_the_whole_library(corpus):
    """A short demo searches all of the library, not the modules that begin with A."""
    few = read_corpus(50)

    assert len(few) == 50
    assert few[0] == corpus[0]
    assert len({p.place.split(".")[0].split("/")[0] for p in few}) > 20


def test_reading_again_gives_the_same_texts_in_the_same_order(corpus):
    """Two runs on one machine are about the same rows."""
    assert read_corpus() == corpus


def test_a_library_without_sources_is_refused_with_the_remedy(tmp_path):
    """Compiled-only installations are named as such."""
    with pytest.raises(CorpusError, match=r"standard library comes as \.py files"):
        read_corpus(library=tmp_path)


@pytest.mark.parametrize("rows", [0, 1_000_000])
def test_a_number_of_rows_that_cannot_be_is_refused(rows):
    """The error says what there is."""
    with pytest.raises(CorpusError, match="--rows"):
        read_corpus(rows)


@pytest.mark.parametrize(
    "block",
    [
        ">>> heappush(heap, item) pushes an item on the heap and keeps it a heap, always so.",
        "- a bullet that goes on about something for long enough to count as a paragraph here.",
        "Too short.",
        "this is a fragment that begins in the middle and never comes to an end of its sentence,",
        "Usage: x = y[0]; a_b = {1: 2}, and so on and on for as long as a paragraph has to be.",
        "    Indented blocks are examples, whatever they say in however many words they like it.",
    ],
)
def test_code_lists_and_fragments_are_left_out(block):
    """Only prose is worth embedding."""
    assert prose(block) is None


def test_a_paragraph_over_several_lines_becomes_one_line():
    """The text of a row holds no line ends."""
    block = (
        "Merge multiple sorted inputs into a single sorted output,\nas an iterator over all values."
    )

    assert prose(block) == block.replace("\n", " ")
