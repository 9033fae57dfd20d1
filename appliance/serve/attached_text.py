"""OpenAI's completions by texts: servers that take a prompt in no other form, as Hugging Face's TGI and many more.

The prompt goes out as the text of which the model's own tokenizer makes the very tokens that were counted here
(`attached_tokens`). So the name of a control token in somebody's text is never sent: it would be found there.

Rules:
    TEXT-1 What has no such text is refused, and what the peer counts must be what was counted here, at every answer.
    TEXT-2 A word is handed on only where it was seen to change answers when the peer was started (`attached_trials`);
           whoever asks for another is refused by its name.
    TEXT-3 It keeps no prompt of an ended answer: it says so, or its time does.
    TEXT-4 How likely a text is, is told of a prompt that it says again (`echo`) or of one that it read (TGI), or had
           as OPENAI-1 has it. Which of them works is tried.
    TEXT-5 A stop text that it leaves in its answer is cut off here, and so is the name of the token that ended it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from appliance.errors import EngineProtocolError, EngineRefusedError
from appliance.serve import attached_older as older
from appliance.serve import attached_scores as scores
from appliance.serve import attached_words as words
from appliance.serve.asking import RefusedError
from appliance.serve.attached_openai import BIAS, SENTENCE, SHORT_TOKENS, OpenAI, keeps_prompts
from appliance.serve.attached_peer import Peer
from appliance.serve.attached_tokens import LocalTokens
from appliance.serve.attached_trials import NEUTRAL, ROUNDS, Taken, find_out, is_kept, require_seeds
from appliance.serve.attached_words import Part
from appliance.serve.engine import BEYOND_OPENAI, Generation, Likelihood, Sampling
from appliance.serve.events import unreachable

_TRIES: Final = 16
_LIKELY: Final = ("Nobody had told the keeper of the", " lighthouse that")
_REASONS: Final = {"": None, "eos_token": "stop", "stop_sequence": "stop"}
"""TGI's words, and what is said before there is one."""
_NOTHING: Final = Taken(words=frozenset(), said=frozenset(), stops=False)
_BUSY: Final = 429
_Way = Callable[[Sequence[int], Sequence[int]], float]


class OpenAIText(OpenAI):
    """A server that speaks OpenAI's completions and takes prompts as texts.

    Args:
        peer: Who answers.
        tokens: The version's vocabulary.
    """

    def __init__(self, peer: Peer, tokens: LocalTokens) -> None:
        super().__init__(peer, tokens)
        self._controls = [name for one, name in tokens.names.items() if name and tokens.is_control(one)]
        self._put: tuple[int, ...] = ()
        self._taken = _NOTHING
        self._tells = self._biases = False
        self._way: _Way = super().likelihood

    @property
    def takes(self) -> tuple[str, ...]:
        """Those that were seen to change answers."""
        return tuple(name for name in BEYOND_OPENAI if name in self._taken.words)

    @property
    def leaves_stops_out(self) -> bool:
        """Nobody knows: some leave it out where a token ends with it, and nowhere else. It is cut off here (TEXT-5)."""
        return False

    def require_fit(self, *, context_tokens: int) -> None:
        """Pass when the peer does what TEXT-1, TEXT-3 and TEXT-4 ask of it; learn which words it takes.

        Raises:
            EngineLoadError: It does not.
            EngineProtocolError, EngineRefusedError, EngineUnavailableError: It did not answer.
        """
        self.model = self.only_model()
        sentence = self.sentence(SENTENCE.strip())
        self._put = self._put_before(sentence)
        prompt = [*self._put, *sentence]
        self._require_controls(sentence)
        self.require_room(self._long(context_tokens - 1))
        self._require_nothing_kept(context_tokens - 1, short=prompt)
        require_seeds(self._says, prompt)
        self._taken = find_out(self._says, prompt)
        self._require_streams(prompt)
        self._tells, self._biases = self._likelihood_is_told(prompt), self._is_biased(prompt)
        self._way = self._way_to_score()
        self.keeps_shapes = self.shape_is_kept(prompt)

    def require_askable(self, generation: Generation) -> None:
        """Pass when its prompt has a text, and the peer takes every word that is wanted (TEXT-1, TEXT-2).

        Raises:
            RefusedError: It has none, or does not.
        """
        super().require_askable(generation)
        self._text(generation.tokens)
        for name, value in older.drawn(generation.sampling, every_token=0).items():
            if value != NEUTRAL[name] and name not in self._taken.words:
                raise _not_taken(name)
        if generation.stop and not self._taken.stops:
            raise _not_taken("stop")
        if generation.sampling.logit_bias and not self._biases:
            raise _not_taken("logit_bias")
        if generation.top_logprobs is not None and not self._tells:
            raise _not_taken("logprobs")

    def worded(self, generation: Generation, *, index: int) -> dict[str, Any]:
        """Return what it is asked: the words of all, and of those for how a token is drawn every one that it takes.

        Raises:
            RefusedError: As `require_askable`.
        """
        asked = words.asked_of_all(generation, index=index, model=self.model, seeds=older.SEEDS)
        wanted = older.drawn(generation.sampling, every_token=0).items()
        return {
            **{name: value for name, value in asked.items() if name not in NEUTRAL},
            **{name: value for name, value in wanted if value != NEUTRAL[name] or name in self._taken.said},
            "prompt": self._text(generation.tokens),
        }

    def part_of(self, untrusted: Mapping[str, Any], *, top: int | None) -> Part:
        """Return what an event says, TGI's words in OpenAI's; likelihoods in either of OpenAI's forms.

        Raises:
            EngineProtocolError: It reports a failure, or breaks OpenAI's form.
        """
        choices = untrusted.get("choices")
        if isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], dict):
            choice = dict(choices[0])
            reason = choice.get("finish_reason")
            if isinstance(reason, str):
                choice["finish_reason"] = _REASONS.get(reason, reason)
            text = choice.get("text")
            if choice.get("finish_reason") == "stop" and isinstance(text, str):
                named = next((name for name in self._controls if text.endswith(name)), "")
                choice["text"] = text.removesuffix(named)
            untrusted = {**untrusted, "choices": [choice]}
        return words.part_of(untrusted, top=top, name=self._peer.name, likelihoods_of=_of_either_form)

    def likelihood(self, prompt: Sequence[int], continuation: Sequence[int]) -> float:
        """Return how likely a continuation is, in the way that was seen to work (TEXT-4).

        Raises:
            RefusedError: The prompt is empty, or the two have no text.
            EngineProtocolError, EngineRefusedError, EngineUnavailableError: The peer did not say.
        """
        if not prompt:
            raise RefusedError("empty_prompt", "the prompt is empty")
        return self._way(prompt, continuation)

    def asked(self, prompt: Sequence[int], **more: Any) -> dict[str, Any]:
        """Return the whole answer to a prompt, as `OpenAI.asked`, by its text and no word that was not tried.

        Raises:
            RefusedError: It has no text.
            EngineProtocolError, EngineRefusedError, EngineUnavailableError: It did not answer; unavailable, too, where
                it refused because it is busy.
        """
        body = {"model": self.model, "prompt": self._text(prompt), "max_tokens": 1, "temperature": 0, "seed": 0}
        try:
            return self._peer.ask(words.COMPLETIONS, body | {"stream": False} | more)
        except EngineRefusedError as error:
            if error.http_status != _BUSY and error.http_status < 500:
                raise
            # Nothing is found out by that; a unit tries again.
            raise unreachable(self._peer.name, error) from error

    def _text(self, tokens: Sequence[int]) -> str:
        put = len(self._put)
        if tuple(tokens[:put]) != self._put:
            raise RefusedError("invalid_value", "this engine puts a token before every text, and the prompt has none")
        text = self._tokens.text_for(tokens[put:])
        if text == "":
            raise RefusedError("empty_prompt", "the prompt is empty")
        if text is None:
            raise RefusedError(
                "invalid_value",
                "this engine is given texts, and the prompt has a name of one of the model's own tokens",
            )
        return text

    def _says(self, prompt: Sequence[int], most: int, **more: Any) -> str:
        return self.part_of(self.asked(prompt, max_tokens=most, **more), top=None).text

    def _counted(self, prompt: Sequence[int]) -> int:
        part = self.part_of(self.asked(prompt), top=None)
        return part.prompt_tokens or 0

    def _put_before(self, sentence: Sequence[int]) -> tuple[int, ...]:
        """Return what it puts before a text by itself: nothing, or what the vocabulary's own file puts there."""
        more = self._counted(sentence) - len(sentence)
        opening = tuple(self.opening)
        if more not in {0, len(opening)}:
            raise older.unfit(
                "it counts a text's tokens otherwise than its tokenizer.json", "bring the model's own file"
            )
        return opening if more else ()

    def _require_controls(self, sentence: Sequence[int]) -> None:
        control = next((one for one in sorted(self._tokens.names) if self._tokens.is_control(one)), None)
        marked = [*sentence, *([] if control is None else [control]), *sentence]
        if self._tokens.text_for(marked) is None:
            return  # a vocabulary that takes white space away beside them; every prompt is looked at by itself
        if self._counted([*self._put, *marked]) != len(self._put) + len(marked):
            raise older.unfit("it does not know control tokens by their names in a text", "use one that does")

    def _long(self, tokens: int, *, begins: str = "") -> list[int]:
        """Return a prompt of so many tokens, or a few fewer where a cut makes others of the last ones."""
        room = tokens - len(self._put)
        sentences = 2 * room // len(self.sentence()) + 2
        whole = self._tokens.tokenize(begins + SENTENCE * sentences, special=False)[:room]
        for _ in range(_TRIES):
            if self._tokens.text_for(whole) is not None:
                return [*self._put, *whole]
            whole.pop()
        raise older.unfit("its vocabulary makes other tokens of a text than of its parts", "choose another version")

    def _require_nothing_kept(self, tokens: int, *, short: Sequence[int]) -> None:
        prompt = self._long(min(SHORT_TOKENS, tokens), begins="0. ")
        known = [self.known_of(prompt) for _ in range(2)][-1]
        is_found = None if known is None else bool(known)
        for length in (min(SHORT_TOKENS, tokens), tokens):
            if is_found is None:
                prompts = [self._long(length, begins=f"{length} {number}. ") for number in range(ROUNDS)]
                is_found = is_kept(self.known_of, prompts, short=short)
        if is_found is None:
            raise older.unfit(
                "neither its words nor its time say whether it keeps prompts",
                "let it say so (usage.prompt_tokens_details.cached_tokens), or give it more context",
            )
        if is_found:
            raise keeps_prompts()

    def _require_streams(self, prompt: Sequence[int]) -> None:
        sampling = Sampling(temperature=0, top_p=1.0)
        body = self.question(Generation(tokens=list(prompt), max_tokens=2, sampling=sampling), index=0)
        parts = [self.part_of(event, top=None) for event in self._peer.stream(words.COMPLETIONS, body).events()]
        counted = next((part for part in parts if part.completion_tokens is not None), Part())
        words.require_counted(counted, prompt=len(prompt), most=2, name=self._peer.name)

    def _likelihood_is_told(self, prompt: Sequence[int]) -> bool:
        try:
            return len(self.part_of(self.asked(prompt, logprobs=1), top=1).likelihoods) == 1
        except (EngineRefusedError, EngineProtocolError):
            return False

    def _is_biased(self, prompt: Sequence[int]) -> bool:
        token = self._tokens.tokenize("x", special=False)[-1]
        try:
            return self._says(prompt, 1, logit_bias={str(token): BIAS}).strip() == "x"
        except EngineRefusedError:
            return False

    def _way_to_score(self) -> _Way:
        prompt, continuation = (self._tokens.tokenize(text, special=False) for text in _LIKELY)
        for way in (self._by_echo, self._by_reading, super().likelihood):
            try:
                if way([*self._put, *prompt], continuation) < 0:
                    return way
            except (EngineRefusedError, EngineProtocolError, RefusedError):
                continue
        raise older.unfit("it does not say how likely a text is", "use one that knows echo with logprobs, or a bias")

    def _by_echo(self, prompt: Sequence[int], continuation: Sequence[int]) -> float:
        whole = [*prompt, *continuation]
        told = self.asked(whole, **scores.ECHO)
        return scores.of_echo(
            told,
            self.part_of(told, top=None),
            continuation,
            prompt_tokens=len(whole),
            put=len(self._put),
            tokens=self._tokens,
            name=self._peer.name,
        )

    def _by_reading(self, prompt: Sequence[int], continuation: Sequence[int]) -> float:
        whole = [*prompt, *continuation]
        told = self._peer.ask(scores.GENERATE, scores.reading(self._text(whole)))
        return scores.of_reading(told, whole, prompt_tokens=len(prompt), name=self._peer.name)


def _not_taken(name: str) -> RefusedError:
    return RefusedError("unsupported_parameter", "this engine does not do what it says; it was tried", param=name)


def _of_either_form(untrusted: object, top: int, name: str) -> tuple[Likelihood, ...]:
    if isinstance(untrusted, dict) and untrusted.get("content") is not None:
        return words.likelihoods(untrusted, top, name)
    return older.likelihoods(untrusted, top, name)
