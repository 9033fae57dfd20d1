"""How alike two texts are, by embeddings that no model makes: hashed counts of words and of three to five letters.

Cosine similarity in thousandths. A model under test must not judge itself (a damaged one may find everything alike),
and a medium need not bring a second model; what counts here is wording, so a reference answer is written as the answer
is wanted. Deterministic: the same on every machine. Where the box holds another model that a release declares to judge
similarity, an item that has a threshold for it is judged by that model's vectors instead (`Alike`); words and vectors
are different scales, so neither threshold stands for the other.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Final

_DIMENSIONS: Final = 4096
_LETTERS: Final = (3, 4, 5)
_WORD_WEIGHT: Final = 3
_WORD: Final = re.compile(r"\w+")

Alike = Callable[[str, str], int]
"""Tells how alike two texts are by a model's vectors, in thousandths."""


def similarity_millis(one: str, other: str) -> int:
    """Return 0 (nothing in common) to 1000 (the same words in any case and spacing)."""
    first, second = _embedding(one), _embedding(other)
    length = math.sqrt(_dot(first, first) * _dot(second, second))
    return 0 if length == 0 else min(1000, round(1000 * _dot(first, second) / length))


def cosine_millis(one: Sequence[float], other: Sequence[float]) -> int:
    """Return the cosine of two vectors in thousandths; 0 for what points apart, or nowhere."""
    length = math.sqrt(math.fsum(value * value for value in one) * math.fsum(value * value for value in other))
    product = math.fsum(mine * theirs for mine, theirs in zip(one, other, strict=True))
    return 0 if length == 0 else max(0, min(1000, round(1000 * product / length)))


def _embedding(text: str) -> Mapping[int, float]:
    words = _WORD.findall(text.casefold())
    counts: Counter[str] = Counter()
    for word in words:
        counts[f"={word}"] += _WORD_WEIGHT
        padded = f" {word} "
        for size in _LETTERS:
            counts.update(padded[at : at + size] for at in range(len(padded) - size + 1))
    embedding: dict[int, float] = {}
    for piece, count in counts.items():
        place = int.from_bytes(blake2b(piece.encode(), digest_size=4).digest(), "big") % _DIMENSIONS
        # A word that is said ten times counts more than once, and less than ten times.
        embedding[place] = embedding.get(place, 0.0) + 1 + math.log(count)
    return embedding


def _dot(one: Mapping[int, float], other: Mapping[int, float]) -> float:
    return sum(value * other.get(place, 0.0) for place, value in one.items())
