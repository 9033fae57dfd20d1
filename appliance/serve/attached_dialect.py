"""What is different from one attached engine to another: who counts tokens, what it is asked, how likelihoods are had.

Everything else of an attached engine, its places, its callers and its answers, is the same code for all (`attached`).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from appliance.errors import EngineLoadError, EngineRefusedError
from appliance.serve import attached_older as older
from appliance.serve import attached_words as words
from appliance.serve.asking import RefusedError, Serving
from appliance.serve.attached_peer import Peer
from appliance.serve.attached_words import Part
from appliance.serve.engine import BEYOND_OPENAI, Generation, Sampling


class Dialect(Protocol):
    """The words of one kind of server; safe for threads."""

    @property
    def vocabulary_tokens(self) -> int:
        """How many tokens there may be; each has a number from 0."""
        ...

    @property
    def takes(self) -> tuple[str, ...]:
        """Which of the words beyond OpenAI's it honours."""
        ...

    @property
    def leaves_stops_out(self) -> bool:
        """Whether an answer ends before a stop text; where it ends behind one, that is cut off."""
        ...

    def require_fit(self, *, context_tokens: int) -> None:
        """Pass when the peer is set up as the contract of an engine needs it.

        Raises:
            EngineLoadError: It is not.
            EngineProtocolError, EngineRefusedError, EngineUnavailableError: It did not say.
        """
        ...

    def held(self, *, context_tokens: int, places: int) -> int:
        """Return how many tokens the peer holds of all answers at once; asked once it is known to fit.

        Args:
            context_tokens: Tokens of one question and its answer.
            places: Answers at once.
        """
        ...

    @property
    def named(self) -> Collection[int] | None:
        """The tokens that are found in a text by their names; None where nobody knows them."""
        ...

    @property
    def opening(self) -> Sequence[int]:
        """What the model's own tokenizer puts before a text.

        Raises:
            EngineProtocolError, EngineRefusedError, EngineUnavailableError: Nobody said.
        """
        ...

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Return the tokens of a text that is not empty; control tokens are recognised only when `special`.

        Raises:
            EngineProtocolError, EngineRefusedError, EngineUnavailableError: Nobody said.
        """
        ...

    def require_askable(self, generation: Generation) -> None:
        """Pass when the peer can do what is wanted.

        Raises:
            RefusedError: It cannot; nothing is left out silently.
        """
        ...

    def question(self, generation: Generation, *, index: int) -> dict[str, Any]:
        """Return what a peer is asked, at `COMPLETIONS`, for one of a generation's answers, as a stream."""
        ...

    def part_of(self, untrusted: Mapping[str, Any], *, top: int | None) -> Part:
        """Return what an event of its answer says; `top` likelihoods were asked for, None for none.

        Raises:
            EngineProtocolError: It reports a failure, or breaks its form.
        """
        ...

    def likelihood(self, prompt: Sequence[int], continuation: Sequence[int]) -> float:
        """Return the log-likelihood (nats) of a continuation after a prompt.

        Raises:
            RefusedError: It cannot be told of these.
            EngineProtocolError, EngineRefusedError, EngineUnavailableError: The peer did not say.
        """
        ...


def require_settings_taken(dialect: Dialect, prompt: Sequence[int], serving: Serving) -> None:
    """Pass when the peer can do what the version itself asks for where a caller asks for nothing.

    Raises:
        EngineLoadError: It cannot: every question would be refused.
    """
    sampling = Sampling(
        temperature=serving.temperature,
        top_p=serving.top_p,
        top_k=serving.top_k,
        repeat_penalty=serving.repeat_penalty,
    )
    try:
        dialect.require_askable(Generation(tokens=prompt, max_tokens=1, sampling=sampling, stop=serving.stop))
    except RefusedError as error:
        raise EngineLoadError(
            what="the attached engine cannot do what the version's own settings ask for",
            why=f"{error.param or 'its prompt'}: {error.message}",
            fix="leave it out of models.runtime, or use another engine",
        ) from error


class LlamaServer:
    """llama.cpp's own server: it counts tokens itself, and a bias does not count in the likelihoods that it tells.

    Args:
        peer: Who answers.
        model: The name that the peer has for the version.
        named: Which tokens its weights have that are found in a text by their names; None where nobody knows.
    """

    def __init__(self, peer: Peer, *, model: str, named: Collection[int] | None = None) -> None:
        self.named = named
        self._peer = peer
        self._model = model
        self._opening: list[int] | None = None

    @property
    def vocabulary_tokens(self) -> int:
        """How many there may be of any; which of these numbers are none, the peer knows alone and leaves out."""
        return words.MOST_TOKENS

    @property
    def takes(self) -> tuple[str, ...]:
        """All of them."""
        return BEYOND_OPENAI

    @property
    def leaves_stops_out(self) -> bool:
        """It does."""
        return True

    def require_fit(self, *, context_tokens: int) -> None:
        """Pass when it says that a place holds `context_tokens`; what else it has to be told, each question says.

        Raises:
            EngineLoadError: It has less: by itself it gives each place a part of its context.
            EngineProtocolError, EngineRefusedError, EngineUnavailableError: It did not answer.
        """
        try:
            told = self._peer.look(words.PROPERTIES)
        except EngineRefusedError as error:
            if error.http_status >= 500:
                raise
            return  # it does not say; a prompt to try it with would take as long as all of the context
        usual = told.get("default_generation_settings")
        room = usual.get("n_ctx") if isinstance(usual, dict) else None
        if type(room) is int and 0 < room < context_tokens:
            raise older.unfit(
                f"each of its places holds {room} tokens, of {context_tokens}",
                "start it with --kv-unified and --ctx-size {n_ctx}, or give it n_ctx for each of its places",
            )

    def held(self, *, context_tokens: int, places: int) -> int:  # noqa: ARG002 - the places share it
        """Return one context: that is what all places share with `--kv-unified`, and a larger one is not told of."""
        return context_tokens

    @property
    def opening(self) -> Sequence[int]:
        """What it puts before a text, less what it might put behind one."""
        if self._opening is None:
            bare, put = (self._tokens(".", special=False, with_ends=with_ends) for with_ends in (False, True))
            at = next((at for at in range(len(put)) if put[at : at + len(bare)] == bare), 0)
            self._opening = put[:at]
        return self._opening

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Return the tokens of a text."""
        return self._tokens(text, special=special, with_ends=False)

    def _tokens(self, text: str, *, special: bool, with_ends: bool) -> list[int]:
        asked = {"content": text, "add_special": with_ends, "parse_special": special, "with_pieces": False}
        # Fewer tokens than bytes, one for a space that some vocabularies put before a text, and those at both ends.
        most = len(text.encode(errors="replace")) + 1 + 2 * with_ends
        return words.tokens_of(self._peer.ask(words.TOKENIZE, asked), most=most, name=self._peer.name)

    def require_askable(self, generation: Generation) -> None:
        """Pass: it does all that our own engine does, but for calls of functions, which `AttachedTokens` refuses."""

    def question(self, generation: Generation, *, index: int) -> dict[str, Any]:
        """Return what it is asked."""
        return words.question(generation, index=index, model=self._model)

    def part_of(self, untrusted: Mapping[str, Any], *, top: int | None) -> Part:
        """Return what an event says."""
        return words.part_of(untrusted, top=top, name=self._peer.name)

    def likelihood(self, prompt: Sequence[int], continuation: Sequence[int]) -> float:
        """Return how likely a continuation is: each token is made the only choice, one question for each."""
        total = 0.0
        for at, token in enumerate(continuation):
            asked = words.forced([*prompt, *continuation[:at]], token, model=self._model)
            total += words.forced_likelihood(self._peer.ask(words.COMPLETIONS, asked), token, name=self._peer.name)
        return total
