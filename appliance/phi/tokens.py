"""Replaces identifiers by tokens of one request, `[SSN_1]`, numbered by first appearance over all its texts.

A client that resends its history gets the same tokens, and equal requests give equal masked text. Anything in a text
that looks like a token is itself replaced first, by a token of class TEXT, and so comes back literally: nobody can
type another's token, and `TokenMap.restore` of masked text is always the text it was made from.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from appliance.phi import escapes
from appliance.phi.detect import Detector, Finding
from appliance.phi.escapes import PlainText
from appliance.phi.everyday import EVERYDAY, PARTICLES
from appliance.phi.patterns import LITERAL, TOKEN_WORDS, PhiClass
from appliance.phi.surroundings import ENDS, NEVER, THINGS

TOKEN: Final = re.compile(
    r"\[ {0,2}(" + "|".join(TOKEN_WORDS) + r")[ _\\-]{0,3}([0-9]{1,6}) {0,2}\]", re.IGNORECASE | re.ASCII
)
"""A token as a model may give it back: in other case, with spaces, with Markdown's backslash."""

MAX_TOKEN_CHARACTERS: Final = 1 + 2 + max(map(len, TOKEN_WORDS)) + 3 + 6 + 2 + 1

# Identifiers that no pattern sees without their label, looked for again wherever the request repeats them.
_REPEATED: Final = frozenset(
    {PhiClass.MRN, PhiClass.NAME, PhiClass.ACCOUNT, PhiClass.PLAN, PhiClass.LICENCE, PhiClass.VEHICLE, PhiClass.DEVICE}
)
_SHORTEST_PART: Final = 3
# In small letters, as a field may have a name (`"given": ["will"]`): most of them stand for no name elsewhere.
_EVERYDAY: Final = NEVER | ENDS | EVERYDAY | PARTICLES
_WRITTEN_ONE_WAY: Final = _EVERYDAY | THINGS
_SHORTEST_OWNER: Final = 4
# Characters, which take about 10 ms.
_ASKED_EACH: Final = 10_000
_WORD: Final = re.compile(r"\w+")
_BETWEEN_PARTS: Final = re.compile(r"[,^\s]+")
_NOT_A_NAME: Final = re.compile(
    "A(?:ll|nd|ny|re|sk)|But|For|From|Get|Ha[sdv]e?|Her|His|How|Its|New|None?|Not|Now|Our|Patient|Please|She|Take|Tell"
    "|Th(?:at|e|en|ere|ese|ey|is|ose)|Unknown|Use|Was|Were|Wh(?:at|en|ere|ich|o|y)|With|Yes|Your?"
)


@dataclass(slots=True)
class TokenMap:
    """What each token of one request stands for."""

    values: dict[tuple[str, int], str] = field(default_factory=dict)
    _ordinals: dict[tuple[str, str], int] = field(default_factory=dict, init=False)
    _last: Counter[str] = field(default_factory=Counter, init=False)

    def assign(self, word: str, value: str) -> str:
        """Return the token of `value`, a new one if it has none."""
        ordinal = self._ordinals.get((word, value))
        if ordinal is None:
            self._last[word] += 1
            ordinal = self._last[word]
            self._ordinals[word, value] = ordinal
            self.values[word, ordinal] = value
        return f"[{word}_{ordinal}]"

    def value_of(self, match: re.Match[str]) -> str | None:
        """Return what a match of `TOKEN` stands for; None when this request has no such token."""
        return self.values.get((match[1].upper(), int(match[2])))

    def of(self, text: str) -> "TokenMap":
        """Return what the tokens in a masked text stand for, and nothing of the others."""
        found = ((match[1].upper(), int(match[2])) for match in TOKEN.finditer(text))
        return TokenMap(values={token: self.values[token] for token in found if token in self.values})

    def restore(self, text: str) -> str:
        """Return `text` with the tokens of this request replaced; unknown ones stay."""

        def value(match: re.Match[str]) -> str:
            known = self.value_of(match)
            return match[0] if known is None else known

        return TOKEN.sub(value, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """Texts with tokens in place of identifiers, in the order given, and how many of each class were found."""

    texts: tuple[str, ...]
    counts: Mapping[PhiClass, int]
    tokens: TokenMap


class Around(str):
    """A text that following ones of a request are pieces of. It says what they are, and is neither counted nor given.

    Of `{"phone": "5550134"}` the engine is told the pieces, of which none says by itself what it is.
    """

    __slots__ = ()


class UnwantedError(Exception):
    """Nobody waits any more for what is masked."""


def _always() -> bool:
    return True


def mask(texts: Sequence[str], detector: Detector, *, is_wanted: Callable[[], bool] = _always) -> Masked:
    """Replace every identifier and every look-alike of a token in all `texts` of one request.

    What a text escapes, as JSON does, is looked for as what it means, and comes back as that. A text that is what was
    found in one of `Around` is that identifier; in place of that one itself stands an empty text.

    Args:
        texts: Those of one request, in the order in which tokens are numbered.
        detector: Finds identifiers in one text at a time: what stands in it depends on all of it, so none is parted.
        is_wanted: Asked between texts, each time that so many characters were read.

    Raises:
        UnwantedError: It is not.
    """
    tokens = TokenMap()
    repeats = _Repeats()
    wanted = _Wanted(is_wanted)
    read = [escapes.read(text) for text in texts]
    spans: list[list[_Span]] = []
    repeated: list[tuple[int, list[_Span]]] = []
    for one in read:
        wanted.require(len(one.plain))
        spans.append(_learn(one.plain, one.found(detector), tokens=tokens, repeats=repeats))
        repeated.append((len(repeats), list(repeats.find(one.plain))))
        # A name may be written otherwise there, and has a token of its own then, which later texts take from nothing.
        for again in repeated[-1][1]:
            tokens.assign(again.word, one.plain[again.start : again.end])
    pieces = {
        one.plain[start:end]: word
        for text, one, known in zip(texts, read, spans, strict=True)
        if isinstance(text, Around)
        for start, end, word in known
        if word != LITERAL
    }
    counts: Counter[PhiClass] = Counter()
    masked: list[str] = []
    for text, one, known, (learned, found) in zip(texts, read, spans, repeated, strict=True):
        wanted.require(len(one.plain))
        if isinstance(text, Around):
            masked.append("")
            continue
        word = pieces.get(one.plain)
        spans_of_it = known if word is None else _joined([_Span(0, len(one.plain), word), *known])
        spans_of_it = _with_repeats(spans_of_it, found if learned == len(repeats) else repeats.find(one.plain))
        masked.append(_masked(one, spans_of_it, tokens=tokens, counts=counts))
    return Masked(texts=tuple(masked), counts=dict(counts), tokens=tokens)


class _Wanted:
    """Asks whether anybody waits still, and not before each of thousands of short texts."""

    def __init__(self, is_wanted: Callable[[], bool]) -> None:
        self._is_wanted = is_wanted
        self._read = 0

    def require(self, characters: int) -> None:
        """Return where so many characters are to be read."""
        self._read += characters
        if self._read < _ASKED_EACH:
            return
        self._read = 0
        if not self._is_wanted():
            raise UnwantedError


def _learn(text: str, findings: Sequence[Finding], *, tokens: TokenMap, repeats: "_Repeats") -> list["_Span"]:
    """Give every value its token, in the order of appearance; what other texts hold cannot change it later."""
    spans = [_Span(one.start, one.end, one.phi_class.name) for one in findings]
    if "[" in text:
        spans = _joined([*spans, *(_Span(*match.span(), LITERAL) for match in TOKEN.finditer(text))])
    for start, end, word in spans:
        tokens.assign(word, text[start:end])
    for finding in findings:
        for part in _parts(text[finding.start : finding.end], finding.phi_class):
            tokens.assign(finding.phi_class.name, part)
            repeats.add(part, finding.phi_class)
    return spans


def _parts(value: str, phi_class: PhiClass) -> Iterator[str]:
    """Yield what to look for in all texts; numbered at once, so that a history keeps its tokens when it grows."""
    if phi_class in _REPEATED and not (phi_class is PhiClass.NAME and value in _EVERYDAY):
        yield value
    if phi_class is PhiClass.NAME:
        for part in _BETWEEN_PARTS.split(value):
            if len(part) >= _SHORTEST_PART and part not in _EVERYDAY and not _NOT_A_NAME.fullmatch(part):
                yield part


class _Repeats:
    """Finds given values as whole words, in time that does not grow with their number.

    A name is found in other capitals, too: a form and an interface write `OYELARAN`, a note `Oyelaran`; and as an owner
    has it without an apostrophe, `Oyelarans`, which is German, and how people type.
    """

    def __init__(self) -> None:
        self._classes: dict[str, PhiClass] = {}
        self._names: set[str] = set()
        self._lengths: dict[str, set[int]] = {}

    def __len__(self) -> int:
        return len(self._classes)

    def add(self, value: str, phi_class: PhiClass) -> None:
        word = _WORD.match(value)
        if word is None or value in self._classes:
            return
        self._classes[value] = phi_class
        small = value.lower()
        self._lengths.setdefault(word[0].lower(), set()).add(len(value))
        if phi_class is PhiClass.NAME and small not in _WRITTEN_ONE_WAY and len(small) == len(value) > 2:
            self._names.add(small)
            if word[0] == value and len(value) >= _SHORTEST_OWNER:
                self._lengths.setdefault(f"{small}s", set()).add(len(value))

    def find(self, text: str) -> Iterator["_Span"]:
        if not self._classes:
            return
        for word in _WORD.finditer(text):
            lengths = self._lengths.get(word[0].lower())
            if lengths is None:
                continue
            start = word.start()
            for length in sorted(lengths, reverse=True):
                end = start + length
                if end <= len(text) and (phi_class := self._class_of(text, start, end, word.end())) is not None:
                    yield _Span(start, end, phi_class.name)
                    break

    def _class_of(self, text: str, start: int, end: int, word_end: int) -> PhiClass | None:
        """Return what stands at a place and ends with a word; None where it was not found before."""
        piece = text[start:end]
        is_name = piece[0].isupper() and piece.lower() in self._names
        if _WORD.match(text, end):
            return PhiClass.NAME if is_name and end + 1 == word_end and text[end] in "sS" else None
        return self._classes.get(piece, PhiClass.NAME if is_name else None)


def _with_repeats(known: list["_Span"], repeated: Iterable["_Span"]) -> list["_Span"]:
    """Add what is repeated; where it reaches beyond a known span, the whole is kept out of sight as a literal."""
    spans = [*known, *repeated]
    if len(spans) == len(known):
        return known
    as_found = set(spans)
    return [one if one in as_found else one._replace(word=LITERAL) for one in _joined(spans)]


def _masked(text: PlainText, spans: Sequence["_Span"], *, tokens: TokenMap, counts: Counter[PhiClass]) -> str:
    if not spans:
        return text.written
    parts: list[str] = []
    at = 0
    for start, end, word in spans:
        if word != LITERAL:
            counts[PhiClass[word]] += 1
        parts += (text.written[at : text.written_at(start)], tokens.assign(word, text.plain[start:end]))
        at = text.written_at(end)
    return "".join([*parts, text.written[at:]])


class _Span(NamedTuple):
    start: int
    end: int
    word: str


def _joined(spans: list[_Span]) -> list[_Span]:
    """Join what overlaps, so that no rest of an identifier stays readable; the first identifier names the class."""
    joined: list[_Span] = []
    for span in sorted(spans, key=lambda one: (one.start, -one.end, one.word == LITERAL)):
        if not joined or joined[-1].end <= span.start:
            joined.append(span)
            continue
        last = joined[-1]
        word = span.word if last.word == LITERAL else last.word
        joined[-1] = _Span(last.start, max(last.end, span.end), word)
    return joined
