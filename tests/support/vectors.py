"""A deterministic embedder: a token is a letter, and a vector counts letters by their number modulo its length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from appliance.errors import EngineProtocolError
from appliance.serve.embedding import left


@dataclass
class LetterEmbedder:
    """Counts letters; fails on demand. Records the batches it was asked for, by how many tokens each text had."""

    dimensions: int = 8
    context_tokens: int = 12
    batch_tokens: int = 16
    batch_texts: int = 4
    vocabulary: int = 0x110000
    batches: list[list[int]] = field(default_factory=list)
    fail_at_batch: int | None = None
    blank: bool = False

    def tokenize(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def embed(self, texts: Sequence[Sequence[int]], has_left: Callable[[], bool]) -> list[list[float]]:
        if has_left():
            raise left()
        if self.fail_at_batch == len(self.batches):
            raise EngineProtocolError(what="embeddings failed", why="as asked", fix="none")
        assert sum(map(len, texts)) <= self.batch_tokens
        assert len(texts) <= self.batch_texts
        self.batches.append([len(text) for text in texts])
        return [self._vector(text) for text in texts]

    def _vector(self, text: Sequence[int]) -> list[float]:
        vector = [0.0] * self.dimensions
        for token in text:
            vector[token % self.dimensions] += 0.0 if self.blank else 1.0
        return vector
