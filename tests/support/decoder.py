"""A deterministic decoder: letters are tokens, and each answer is the prompt's letters in upper case, then an end."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from appliance.errors import EngineProtocolError
from appliance.serve.engine import Constraint, Likelihood, Row, Sampling

END = 0
TOKEN_BYTES = 8
"""What a token's state takes."""


@dataclass
class _Sampler:
    """Under a grammar the answer is the grammar's text."""

    text: str
    drawn: int = 0


@dataclass
class Suspended:
    """What was taken out of a sequence; its tokens where they were kept."""

    held: list[int] | None
    sampler: Any = None

    @property
    def state_bytes(self) -> int:
        return TOKEN_BYTES * len(self.held or [])


def example_of(schema: Any, definitions: Any) -> Any:
    """Return a value that a schema takes."""
    if "$ref" in schema:
        return example_of(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return example_of(schema["anyOf"][0], definitions)
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: example_of(one, definitions) for name, one in schema.get("properties", {}).items()}
    return {"array": [], "string": "x", "number": 1.5, "integer": 7, "boolean": True}.get(kind)


@dataclass
class EchoDecoder:
    """Answers ``abc`` with ``ABC`` and ends; fails on demand. Records what it was asked to decode.

    Attributes:
        is_whole: It cannot give a part of what a sequence holds, as hybrid models.
        is_apart: Each sequence has an equal part of the context to itself.
        window: How many tokens one looks back at; 0 for all.
        gone: How many tokens of their beginning sequences lost behind a window that slid on.
    """

    context_tokens: int = 64
    batch_tokens: int = 16
    sequences: int = 2
    vocabulary_tokens: int = 0x110000
    opening: tuple[int, ...] = ()
    start: str = ""
    end: str = ""
    knows_names: bool = False
    has_forms_behind_thoughts: bool = True
    steps: list[list[Row]] = field(default_factory=list)
    last: list[Row] = field(default_factory=list)
    fail_at_step: int | None = None
    prompts: dict[int, list[int]] = field(default_factory=dict)
    released: list[int] = field(default_factory=list)
    is_whole: bool = False
    is_apart: bool = False
    window: int = 0
    gone: dict[int, int] = field(default_factory=dict)
    samplers: dict[int, "_Sampler"] = field(default_factory=dict)
    begun: list[Sampling] = field(default_factory=list)
    copied: list[tuple[int, int, int]] = field(default_factory=list)
    resumed: list[bool] = field(default_factory=list)
    wanted: list[bool] = field(default_factory=list)

    @property
    def request_tokens(self) -> int:
        return self.context_tokens // self.sequences if self.is_apart else self.context_tokens

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        return [ord(letter) for letter in text]

    def is_named(self, token: int) -> bool:
        return False

    def begin(self, sequence: int, sampling: Sampling) -> None:
        assert sequence not in self.samplers, "a sequence has one sampler"
        self.prompts.setdefault(sequence, [])
        self.samplers[sequence] = _Sampler(text=sampling.grammar)
        self.begun.append(sampling)

    def grammar_of(self, constraint: Constraint) -> str:
        """Return a text that the constraint allows."""
        said = json.dumps(example_of(constraint.schema, constraint.schema.get("$defs", {})))
        thought = "Hm.</think>\n\n" if constraint.follows_thought else ""
        return thought + constraint.opening + said + constraint.closing

    def halt(self) -> None:
        self.wanted.append(False)

    def go_on(self) -> None:
        self.wanted.append(True)

    def decode(self, rows: Sequence[Row]) -> bool:
        if self.fail_at_step is not None and len(self.steps) >= self.fail_at_step:
            raise EngineProtocolError(what="a decode step failed", why="as asked", fix="none")
        assert 0 < len(rows) <= self.batch_tokens
        self.last = list(rows)
        self.steps.append(self.last)
        for row in rows:
            seen = self.prompts.setdefault(row.sequence, [])
            assert row.position == len(seen), "positions have no gaps"
            seen.append(row.token)
        held = [len(seen) for sequence, seen in self.prompts.items() if sequence < self.sequences]
        assert max(held, default=0) <= self.request_tokens, "a sequence has no more"
        assert sum(held) <= self.context_tokens, "there are no more places"
        return True

    def sample(self, sequence: int, row: int) -> int:
        seen, sampler = self.prompts[sequence], self.samplers[sequence]
        # What comes in later rows of the step was not there yet.
        seen = seen[: self.last[row].position + 1]
        if sampler.text:
            sampler.drawn += 1
            return ord(sampler.text[sampler.drawn - 1]) if sampler.drawn <= len(sampler.text) else END
        lower = [token for token in seen if chr(token).islower()]
        upper = [token for token in seen if chr(token).isupper()]
        return END if len(upper) >= len(lower) else ord(chr(lower[len(upper)]).upper())

    def likelihood(self, row: int, token: int, top: int) -> Likelihood:
        return Likelihood(
            token=self.bytes_of(token), logprob=-0.5, top=tuple((b"abc"[at : at + 1], -1.0 - at) for at in range(top))
        )

    def bytes_of(self, token: int) -> bytes:
        return chr(token).encode()

    def is_end(self, token: int) -> bool:
        return token == END

    def reaches(self, sequence: int, tokens: int) -> bool:
        return not tokens or self.gone.get(sequence, 0) <= max(0, tokens - self.window + 1)

    def copy(self, source: int, target: int, tokens: int) -> bool:
        assert self.reaches(source, tokens)
        if self.is_whole:
            return False
        assert not self.prompts.get(target)
        assert len(self.prompts[source]) >= tokens
        self.copied.append((source, target, tokens))
        self.prompts[target] = self.prompts[source][:tokens]
        return True

    def cut(self, sequence: int, tokens: int) -> bool:
        held = self.prompts.get(sequence, [])
        assert tokens <= len(held)
        is_done = self.reaches(sequence, tokens) and (not self.is_whole or tokens in {0, len(held)})
        self.prompts[sequence] = held[:tokens] if is_done else []
        return is_done

    def rest(self, sequence: int) -> None:
        self.samplers.pop(sequence, None)

    def release(self, sequence: int) -> None:
        self.released.append(sequence)
        self.prompts.pop(sequence, None)
        self.gone.pop(sequence, None)
        self.samplers.pop(sequence, None)

    def suspend(self, sequence: int, *, most_bytes: int) -> Suspended:
        held = self.prompts.pop(sequence)
        is_kept = TOKEN_BYTES * len(held) <= most_bytes
        return Suspended(sampler=self.samplers.pop(sequence), held=held if is_kept else None)

    def resume(self, sequence: int, suspended: Any) -> bool:
        self.samplers[sequence] = suspended.sampler
        self.prompts[sequence] = suspended.held or []
        self.resumed.append(suspended.held is not None)
        return suspended.held is not None

    def discard(self, suspended: Any) -> None:
        pass

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> float:
        return -float(len(continuation))


@dataclass
class SayingDecoder(EchoDecoder):
    """Says one text, unless a form is asked for."""

    says: str = ""

    def begin(self, sequence: int, sampling: Sampling) -> None:
        super().begin(sequence, sampling)
        self.samplers[sequence].text = sampling.grammar or self.says
