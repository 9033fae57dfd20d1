"""A deterministic decoder: letters are tokens, and each answer is the prompt's letters in upper case, then an end."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from appliance.errors import EngineProtocolError
from appliance.serve.engine import Row, Sampling

END = 0


@dataclass
class EchoDecoder:
    """Answers ``abc`` with ``ABC`` and ends; fails on demand. Records what it was asked to decode."""

    context_tokens: int = 64
    batch_tokens: int = 16
    sequences: int = 2
    steps: list[list[Row]] = field(default_factory=list)
    fail_at_step: int | None = None
    prompts: dict[int, list[int]] = field(default_factory=dict)
    released: list[int] = field(default_factory=list)

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        return [ord(letter) for letter in text]

    def begin(self, sequence: int, sampling: Sampling) -> None:
        self.prompts[sequence] = []

    def decode(self, rows: Sequence[Row]) -> None:
        if self.fail_at_step is not None and len(self.steps) >= self.fail_at_step:
            raise EngineProtocolError(what="a decode step failed", why="as asked", fix="none")
        assert 0 < len(rows) <= self.batch_tokens
        self.steps.append(list(rows))
        for row in rows:
            seen = self.prompts[row.sequence]
            assert row.position == len(seen), "positions have no gaps"
            seen.append(row.token)

    def sample(self, sequence: int, row: int) -> int:
        seen = self.prompts[sequence]
        lower = [token for token in seen if chr(token).islower()]
        upper = [token for token in seen if chr(token).isupper()]
        return END if len(upper) >= len(lower) else ord(chr(lower[len(upper)]).upper())

    def bytes_of(self, token: int) -> bytes:
        return chr(token).encode()

    def is_end(self, token: int) -> bool:
        return token == END

    def release(self, sequence: int) -> None:
        self.released.append(sequence)
        self.prompts.pop(sequence, None)

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> float:
        return -float(len(continuation))
