"""Puts answers together from an engine's parts and restores identifiers in them, whole or streamed, to the same text.

This is the last step before the response writer: what comes out here is what the caller reads and what is hashed for
the ledger. Each answer's thoughts, its text and each tool call's arguments are separate streams, each with its own
hold-back.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from appliance.gateway.likelihoods import Likelihood, Places
from appliance.gateway.parameters import Asked, Endpoint
from appliance.gateway.reading import CallPiece, Finish, FinishReason, Part, Said, Text, Thought, Usage, broken
from appliance.phi.restore import Restorer, inside_json
from appliance.phi.tokens import TokenMap
from appliance.serve.stopping import StopBuffer


@dataclass(slots=True)
class AssembledCall:
    """One tool call so far."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class Answer:
    """One of the answers as it grows.

    Attributes:
        finish_reason: Why it ended; None before.
        calls: Tool calls by their index, those that have a name.
        likelihoods: Of its tokens, where the engine told them.
        places: Where in its text they begin.
    """

    def __init__(
        self,
        tokens: TokenMap,
        *,
        is_json: bool,
        names: Mapping[str, str],
        stops: tuple[str, ...] = (),
        behind: str = "",
    ) -> None:
        self._tokens = tokens
        self._names = names
        self._content = Restorer(tokens, put=inside_json if is_json else None, behind=behind)
        self._thought = Restorer(tokens)
        self._arguments: dict[int, Restorer] = {}
        self._nameless: dict[int, AssembledCall] = {}
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._is_thinking = False
        self._stops = StopBuffer(stops)
        self._is_over = False
        self._held: tuple[Likelihood, ...] = ()
        self.finish_reason: FinishReason | None = None
        self.calls: dict[int, AssembledCall] = {}
        self.likelihoods: list[Likelihood] = []
        self._places = Places()
        self.places: list[int] = []

    @property
    def text(self) -> str:
        """The text delivered so far."""
        return "".join(self._text)

    @property
    def thoughts(self) -> str:
        """What was thought aloud before the text, as far as it was delivered."""
        return "".join(self._thoughts)

    @property
    def is_whole(self) -> bool:
        """Whether it ended, with each call's function named; a call that was cut may lack it."""
        return self.finish_reason == "length" or (self.finish_reason is not None and not self._nameless)

    @property
    def unknown_tokens(self) -> int:
        """How many tokens were left as they were, because the request had none like them."""
        return self._content.unknown + self._thought.unknown + sum(one.unknown for one in self._arguments.values())

    def delivered(self) -> str:
        """Return the text, and for each tool call a line feed, its name and its arguments."""
        calls = (f"\n{call.name}{''.join(call.arguments)}" for _, call in sorted(self.calls.items()))
        return self.text + "".join(calls)

    def take(self, part: Said | Finish) -> Iterator[Said]:
        """Take one part; yield what may be delivered now.

        Raises:
            EngineProtocolError: The answer had ended: whose words these are nobody knows.
        """
        if self._is_over and not isinstance(part, Finish):
            return  # what the engine writes behind a stop text that it does not know
        if self.finish_reason is not None and not isinstance(part, Finish):
            raise broken("an answer went on after its end")
        if not isinstance(part, Thought) and self._is_thinking:  # nothing of a thought comes after what follows it
            yield from self._end_of_thought(part.choice)
        if isinstance(part, Text):
            self._held += part.likelihoods
            text, self._is_over = self._stops.add(self._content.feed(part.text))
            yield from self._said(part if text == part.text else replace(part, text=text))
        elif isinstance(part, Thought):
            self._is_thinking = True
            yield from self._thinks(replace(part, text=self._thought.feed(part.text)))
        elif isinstance(part, CallPiece):
            restorer = self._arguments.get(part.index)
            if restorer is None:
                restorer = self._arguments[part.index] = Restorer(self._tokens, put=inside_json)
            name = self._tokens.restore(self._names[part.name]) if part.name in self._names else part.name
            yield from self._called(replace(part, name=name, arguments=restorer.feed(part.arguments)))
        else:
            self.finish_reason = "stop" if self._is_over else part.reason

    def close(self, choice: int) -> Iterator[Said]:
        """Yield what was held back; nothing comes after this."""
        yield from self._end_of_thought(choice)
        rest, is_over = ("", True) if self._is_over else self._stops.add(self._content.finish())
        self.finish_reason = "stop" if is_over else self.finish_reason
        text = rest if is_over else rest + self._stops.flush()
        yield from self._said(Text(text=text, choice=choice), is_last=True)
        for index, restorer in self._arguments.items():
            rest = restorer.finish()
            yield from self._called(CallPiece(index=index, id="", name="", arguments=rest, choice=choice))
        if self.finish_reason == "tool_calls" and not self.calls:  # who hears it looks for some
            self.finish_reason = "stop"

    def _said(self, piece: Text, *, is_last: bool = False) -> Iterator[Text]:
        if piece.text or (is_last and self._held):
            likelihoods, self._held = self._held, ()
            places = self._places.of(likelihoods)
            self._text.append(piece.text)
            self.likelihoods += likelihoods
            self.places += places
            has_any = likelihoods or piece.likelihoods
            yield replace(piece, likelihoods=likelihoods, places=places) if has_any else piece

    def _end_of_thought(self, choice: int) -> Iterator[Thought]:
        self._is_thinking = False
        yield from self._thinks(Thought(text=self._thought.finish(), choice=choice))

    def _thinks(self, piece: Thought) -> Iterator[Thought]:
        if piece.text:
            self._thoughts.append(piece.text)
            yield piece

    def _called(self, piece: CallPiece) -> Iterator[CallPiece]:
        """Yield it with id and name where they come first, and never again: clients join what they are told."""
        call = self.calls.get(piece.index)
        if call is not None:
            call.arguments.append(piece.arguments)
            if piece.arguments:
                yield replace(piece, id="", name="")
            return
        call = self._nameless.setdefault(piece.index, AssembledCall())
        call.id = call.id or piece.id
        call.arguments.append(piece.arguments)
        if piece.name:
            call.name = piece.name
            call.id = self._own_id(call.id, piece.index)
            self.calls[piece.index] = self._nameless.pop(piece.index)
            yield replace(piece, id=call.id, arguments="".join(call.arguments))

    def _own_id(self, given: str, index: int) -> str:
        """Return a call's id; another than the engine's where an earlier call has it: results are told by them."""
        taken = {one.id for one in self.calls.values()}
        own = given or f"call_{index}"
        while own in taken:
            own = f"{own}-{index}"
        return own


class Assembly:
    """All answers to one request.

    Args:
        tokens: The tokens of the request that is answered; no other's.

    Attributes:
        usage: Token counts, where the engine gave them.
        answers: In the order of their indices.
    """

    def __init__(self, tokens: TokenMap) -> None:
        self._tokens = tokens
        self.usage: Usage | None = None
        self._most_tokens: int | None = None
        self._may_call = self._may_think = self._tells_likelihoods = True
        self.answers = [Answer(tokens, is_json=False, names={})]

    def expect(self, asked: Asked) -> None:
        """Say what comes: how many answers, how long at most, in which form, and where they end.

        Where there are several prompts nothing of one is put back into the answers to another: a model that counts from
        one would take one person's number for another's.

        Args:
            asked: What the engine was asked.
        """
        self._most_tokens = asked.max_tokens * asked.all_answers
        self._may_call = bool(asked.tools) and asked.tool_choice != "none"
        self._may_think = asked.endpoint is Endpoint.CHAT
        self._tells_likelihoods = asked.logprobs is not None
        prompts, is_json = asked.prompts, asked.response_format is not None
        maps = [self._tokens.of(prompt) for prompt in prompts] if len(prompts) > 1 else [self._tokens]
        stops = tuple(self._tokens.restore(stop) for stop in asked.own_stop)
        self.answers = [
            Answer(of_prompt, is_json=is_json, names=asked.function_names, stops=stops, behind=prompt)
            for of_prompt, prompt in zip(maps, prompts or ("",), strict=True)
            for _ in range(asked.answers)
        ]

    @property
    def text(self) -> str:
        """The first answer's text so far."""
        return self.answers[0].text

    @property
    def calls(self) -> dict[int, AssembledCall]:
        """The first answer's tool calls by their index."""
        return self.answers[0].calls

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the first answer ended; None before."""
        return self.answers[0].finish_reason

    @property
    def unknown_tokens(self) -> int:
        """How many tokens were left as they were, because the request had none like them."""
        return sum(one.unknown_tokens for one in self.answers)

    @property
    def cut(self) -> int:
        """How many of the answers ended at a limit of length."""
        return sum(one.finish_reason == "length" for one in self.answers)

    def delivered(self) -> str:
        """Return what `response_hmac` is made over: the answers, each one behind a record separator but the first."""
        return "\x1e".join(one.delivered() for one in self.answers)

    def thoughts(self) -> str:
        """Return what `thoughts_hmac` is made over: those of each answer, likewise; nothing where there are none."""
        thoughts = [one.thoughts for one in self.answers]
        return "\x1e".join(thoughts) if any(thoughts) else ""

    def take(self, part: Part) -> Iterator[Said]:
        """Take one part; yield what may be delivered now.

        Raises:
            EngineProtocolError: It is of an answer that nobody asked for, or that had ended; it calls a function where
                none may be called, or is a thought in a completion, which has text alone; or it counts more tokens
                than were asked for, which the caller would pay.
        """
        if isinstance(part, Usage):
            if self._most_tokens is not None and part.completion_tokens > self._most_tokens:
                raise broken("it counts more tokens than it was asked for")
            self.usage = part
        elif part.choice < len(self.answers):
            yield from self.answers[part.choice].take(self._asked_for(part))
        else:
            raise broken("there is another answer than was asked for")

    def _asked_for(self, part: Said | Finish) -> Said | Finish:
        if isinstance(part, CallPiece) and not self._may_call:
            raise broken("it calls a function where none may be called")
        if isinstance(part, Thought) and not self._may_think:
            raise broken("it thinks aloud in a completion")
        if isinstance(part, Text) and part.likelihoods and not self._tells_likelihoods:
            return replace(part, likelihoods=())
        return part

    def close(self) -> Iterator[Said]:
        """Yield what was held back; nothing comes after this.

        Raises:
            EngineProtocolError: An answer that was asked for did not end, or calls a function without its name: what
                there is of it is no whole one.
        """
        if any(one.finish_reason is None for one in self.answers):
            raise broken("it says of an answer that was asked for not how it ended")
        if not all(one.is_whole for one in self.answers):
            raise broken("it calls a function and does not say which")
        for choice, answer in enumerate(self.answers):
            yield from answer.close(choice)
