"""The seam between what schedules and what decodes, and the types that cross it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol

FinishReason = Literal["stop", "length", "cancelled", "error"]


LLAMA_SEEDS: Final = 2**32 - 1
"""One less than fit 32 bits: llama.cpp reads the last as a wish for any seed."""
BEYOND_OPENAI: Final = ("top_k", "min_p", "repetition_penalty")
"""vLLM's words for how a token is drawn, where OpenAI has none. An engine that takes them says so in its status; one of
a release from before passes over them in silence, so it is not asked with them."""
THOUGHTS: Final = "thoughts"
"""Said likewise by one whose model thinks aloud, and that tells what it thinks apart from its answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is drawn. Temperature 0 is greedy and deterministic; top_k 0 and min_p 0 leave all tokens in.

    Attributes:
        logit_bias: Tokens with what is added to their logits before anything else is done with them.
        grammar: What the answer must match, as `Decoder.grammar_of` made it; empty for any text.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int = 0
    logit_bias: tuple[tuple[int, float], ...] = ()
    grammar: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """What an answer must look like.

    Attributes:
        schema: What its JSON must match, as `appliance.serve.schema.read` returned it.
        opening: Text that comes before the JSON.
        closing: Text that comes behind it.
        most: How many times the whole may come, one after the other.
        is_optional: Whether any text may come instead that does not begin as `opening` does.
        follows_thought: Whether all of it comes behind a thought that the prompt has opened.
    """

    schema: Mapping[str, Any]
    opening: str = ""
    closing: str = ""
    most: int = 1
    is_optional: bool = False
    follows_thought: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """What is told apart from one answer's text.

    Attributes:
        thoughts: Whether thoughts are.
        is_thinking: Whether the prompt ends within one.
        calls: Whether calls of functions are: an answer that begins with one has no text at all.
    """

    thoughts: bool = False
    is_thinking: bool = False
    calls: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One prompt to continue.

    Attributes:
        tokens: The prompt, at least one token.
        max_tokens: How many tokens to produce at most, in each answer.
        stop: Texts that end the answer and are not part of it.
        apart: What is told apart from the answers' text, and not searched for those; None where nothing is.
        answers: How many answers are wanted; each has the seed of the one before plus one.
        top_logprobs: How many alternatives each token is told with; None tells no probabilities.
        salt: Whose prompt it is. What was read before is used again only for the same one; empty means for nobody.
        priority: Lower runs sooner; one that is lower by a class or more may take the place of another.
        is_streamed: Whether pieces are wanted as they come; who waits for whole answers is not woken for each token.
    """

    tokens: Sequence[int]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    apart: Apart | None = None
    answers: int = 1
    top_logprobs: int | None = None
    salt: str = ""
    priority: int = 0
    is_streamed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """How likely a token was: its natural logarithm, before temperature and limits; `top` are the likeliest."""

    token: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What a step added to one answer: text that is final, and at the end why it ended.

    Attributes:
        completion_tokens: How many tokens the answer has so far.
        index: Which of the answers.
        likelihoods: Of the tokens that the text is made of, where they were asked for.
        cached_tokens: How many tokens of the prompt did not have to be read.
    """

    text: str
    completion_tokens: int
    finish_reason: FinishReason | None = None
    index: int = 0
    likelihoods: tuple[Likelihood, ...] = ()
    cached_tokens: int = 0


class Row(NamedTuple):
    """One token to decode: its sequence, its place in it, and whether its logits are wanted.

    One is made for each token of each step, so it is what is made quickest.
    """

    token: int
    position: int
    sequence: int
    wants_logits: bool


class Suspended(Protocol):
    """What a decoder keeps of a sequence that was taken out."""

    @property
    def state_bytes(self) -> int:
        """How large what is kept of its tokens is; 0 where they have to be read again."""
        ...


class Tokenizer(Protocol):
    """Who knows a model's tokens; safe for threads."""

    @property
    def knows_names(self) -> bool:
        """Whether `is_named` can be answered."""
        ...

    def is_named(self, token: int) -> bool:
        """Tell whether a token is found in a text by its name: control tokens, and those that stay whole."""
        ...

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Return the tokens of `text`; control tokens are recognised only when `special`."""
        ...


class Decoder(Tokenizer, Protocol):
    """A loaded model. Called by one thread only, but for what a tokenizer has and `grammar_of`."""

    @property
    def context_tokens(self) -> int:
        """How many tokens all sequences together may hold."""
        ...

    @property
    def request_tokens(self) -> int:
        """How many tokens one sequence may hold; as many as all together, unless each has a part of its own."""
        ...

    @property
    def batch_tokens(self) -> int:
        """How many rows one `decode` takes."""
        ...

    @property
    def sequences(self) -> int:
        """How many sequences may be alive at once; the one of this number is for padding and scoring."""
        ...

    @property
    def vocabulary_tokens(self) -> int:
        """How many tokens there are; each has a number from 0."""
        ...

    @property
    def start(self) -> str:
        """The text of the token that begins a sequence, as templates write it; empty where there is none."""
        ...

    @property
    def end(self) -> str:
        """That of the one that ends it."""
        ...

    @property
    def opening(self) -> Sequence[int]:
        """What the model's own tokenizer puts before a text that no template was made of; nothing for many models."""
        ...

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Return the tokens of `text`; control tokens are recognised only when `special`."""
        ...

    @property
    def has_forms_behind_thoughts(self) -> bool:
        """Whether a constraint may begin where a thought ends."""
        ...

    def grammar_of(self, constraint: Constraint) -> str:
        """Return the grammar of a constraint.

        Raises:
            SchemaRefusedError: It cannot be made into one.
        """
        ...

    def begin(self, sequence: int, sampling: Sampling) -> None:
        """Make the sampler of a sequence that has none."""
        ...

    def decode(self, rows: Sequence[Row]) -> bool:
        """Run one step over `rows`; False where it ended in the middle, and each of their sequences is to be cut.

        Raises:
            EngineProtocolError: The library reported a failure.
        """
        ...

    def halt(self) -> None:
        """End the step that goes on, soon, and each one until `go_on`, where the library can; from any thread."""
        ...

    def go_on(self) -> None:
        """Take `halt` back; from any thread."""
        ...

    def sample(self, sequence: int, row: int) -> int:
        """Draw the next token of `sequence` from the logits of batch row `row`.

        Raises:
            EngineProtocolError: No token fits the sequence's grammar.
        """
        ...

    def likelihood(self, row: int, token: int, top: int) -> Likelihood:
        """Return how likely `token` was at batch row `row`, with the `top` likeliest tokens."""
        ...

    def bytes_of(self, token: int) -> bytes:
        """Return the token's bytes; nothing for control tokens."""
        ...

    def is_end(self, token: int) -> bool:
        """Tell whether the token ends a turn."""
        ...

    def reaches(self, sequence: int, tokens: int) -> bool:
        """Tell whether a sequence still holds all that a token behind its first `tokens` looks back at.

        Where a window slides over what was read, others may have been given the places that it has left.
        """
        ...

    def copy(self, source: int, target: int, tokens: int) -> bool:
        """Make an empty sequence hold the first tokens of another; False, and nothing held, where that cannot be.

        Asked only of a source that `reaches` so far; where it says False, the model can give no part of any.
        """
        ...

    def cut(self, sequence: int, tokens: int) -> bool:
        """Leave only the first tokens of a sequence; False, and nothing held, where that cannot be.

        So it is with hybrid models, and where a sequence no longer `reaches` so far.
        """
        ...

    def rest(self, sequence: int) -> None:
        """Forget a sequence's sampler, and keep what it holds."""
        ...

    def release(self, sequence: int) -> None:
        """Forget a sequence and its sampler."""
        ...

    def suspend(self, sequence: int, *, most_bytes: int) -> Suspended:
        """Take a sequence out with its sampler, and with its state unless that is larger than `most_bytes`."""
        ...

    def resume(self, sequence: int, suspended: Any) -> bool:
        """Put what was suspended into an empty sequence; False where its tokens have to be read again."""
        ...

    def discard(self, suspended: Any) -> None:
        """Forget what was suspended and does not come back."""
        ...

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> float:
        """Return the log-likelihood (nats) of `continuation` after `prompt`."""
        ...
