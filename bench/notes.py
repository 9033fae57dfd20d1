"""Clinical notes with every identifier marked, for `bench.phi` and the tests of the detector: invented, all of them.

A note is lines of text in which ``{{CLASS|text}}`` marks an identifier; notes are parted by a line ``----``. Both
files were written by somebody who had not seen a rule of the detector. Rules are made with `notes-dev.txt`; nobody who
writes rules reads `notes-heldout.txt`, or its figures would say nothing any more. A site's own notes in this form, as
`notes-NAME.txt`, say what is found of its own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PERSONAL: Final = ("NAME", "DATE", "AGE", "ADDRESS", "PHONE", "EMAIL", "URL")
_NUMBERS: Final = ("SSN", "MRN", "ACCOUNT", "PLAN", "LICENCE", "VEHICLE", "DEVICE", "IP")
CLASSES: Final = frozenset((*_PERSONAL, *_NUMBERS))
_MARK: Final = re.compile(r"\{\{([A-Z]+)\|([^{}|]+)\}\}")
_FOLDER: Final = Path(__file__).resolve().parent
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A text, and the identifiers in it: what each is, and its place."""

    text: str
    marks: tuple[tuple[str, int, int], ...]


def notes(name: str) -> list[Note]:
    """Return the notes of a file of this folder, `notes-NAME.txt`.

    Raises:
        ValueError: A mark names no class.
    """
    raw = (_FOLDER / f"notes-{name}.txt").read_text("utf-8")
    return [_note(each.strip("\n")) for each in re.split(r"(?m)^----$", raw) if each.strip()]


def _note(raw: str) -> Note:
    text, marks, at = "", [], 0
    for match in _MARK.finditer(raw):
        if match[1] not in CLASSES:
            raise ValueError(f"{match[1]} is no class of identifiers")
        text += raw[at : match.start()]
        marks.append((match[1], len(text), len(text) + len(match[2])))
        text += match[2]
        at = match.end()
    return Note(text=text + raw[at:], marks=tuple(marks))


@dataclass(slots=True, kw_only=True)
class Score:
    """How much of what is marked was found, and how much else.

    Attributes:
        found: Identifiers of each class of which no letter and no digit was left.
        marked: All of each class.
        hidden_words: Words outside every mark that were hidden with them.
        words: All words outside marks.
    """

    found: dict[str, int]
    marked: dict[str, int]
    hidden_words: int = 0
    words: int = 0

    @property
    def recall(self) -> float:
        """The part of all identifiers that was found."""
        return sum(self.found.values()) / sum(self.marked.values())

    @property
    def overmasked(self) -> float:
        """The part of other words that was hidden."""
        return self.hidden_words / self.words


def scored(given: Sequence[Note], findings: Sequence[Sequence[tuple[int, int]]]) -> Score:
    """Return what these spans found of these notes."""
    score = Score(found=dict.fromkeys(sorted(CLASSES), 0), marked=dict.fromkeys(sorted(CLASSES), 0))
    for note, spans in zip(given, findings, strict=True):
        hidden = bytearray(len(note.text))
        for start, end in spans:
            hidden[start:end] = b"\1" * (end - start)
        inside = bytearray(len(note.text))
        for name, start, end in note.marks:
            inside[start:end] = b"\1" * (end - start)
            score.marked[name] += 1
            score.found[name] += all(hidden[at] for at in range(start, end) if note.text[at].isalnum())
        for word in _WORD.finditer(note.text):
            if not any(inside[word.start() : word.end()]):
                score.words += 1
                score.hidden_words += any(hidden[word.start() : word.end()])
    return score
