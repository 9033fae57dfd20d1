"""How much is found of marked notes; the figures are floors, so that a change that finds less is seen."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from appliance.phi.detect import PatternDetector, WithNames
from appliance.phi.names import NameRecogniser
from appliance.phi.patterns import DOCUMENTED, NOT_DATES
from appliance.phi.safeharbor import SAFE_HARBOR
from bench.notes import Note, Score, notes, scored

_DETECTOR = WithNames(PatternDetector(), NameRecogniser())


def _score(name: str) -> Score:
    given = notes(name)
    return scored(given, [[(one.start, one.end) for one in _DETECTOR.find(note.text)] for note in given])


@pytest.mark.parametrize(("name", "least"), [("dev", 0.93), ("heldout", 0.77)])
def test_of_marked_notes_at_least_so_much_is_found_and_little_else(name: str, least: float) -> None:
    score = _score(name)

    assert score.recall >= least
    assert score.overmasked <= 0.035


def test_what_is_half_hidden_is_not_found_and_other_words_are_counted() -> None:
    note = Note(text="Ann Lee left Rome", marks=(("NAME", 0, 7),))

    half = scored([note], [[(0, 3)]])
    whole = scored([note], [[(0, 7), (13, 17)]])

    assert (half.recall, half.overmasked) == (0, 0)
    assert (whole.recall, whole.overmasked) == (1, 0.5)


@pytest.mark.parametrize("name", ["dev", "heldout"])
def test_every_note_has_identifiers_of_known_classes(name: str) -> None:
    for note in notes(name):
        assert note.marks
        assert "{{" not in note.text
        assert all(note.text[start:end].strip() for _, start, end in note.marks)


@pytest.mark.parametrize("name", ["dev", "heldout"])
@pytest.mark.parametrize("written", [str, str.lower, str.upper, str.title])
def test_what_a_rule_needs_spares_no_text_in_which_it_finds_something(name: str, written: Callable[[str], str]) -> None:
    rules = (*DOCUMENTED, *NOT_DATES, *SAFE_HARBOR)
    spared = PatternDetector(rules)
    tried = PatternDetector(replace(one, needs=re.compile(""), in_words=True) for one in rules)

    texts = [written(note.text) for note in notes(name)]

    # By its number alone: a failure prints no note that whoever writes rules must not have read.
    assert [at for at, text in enumerate(texts) if spared.find(text) != tried.find(text)] == []
