"""A completion of several prompts: one request, one place and one answer, whose prompts an engine is asked in turn.

OpenAI's completions take a list of texts and number the choices through: those of the second prompt follow those of
the first. Engines are asked one prompt at a time, as the contract between gateway and engine has it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from appliance.errors import EngineProtocolError
from appliance.gateway.calls import AskedInTurn, EngineCall
from appliance.gateway.parameters import Asked
from appliance.gateway.reading import Usage, broken, parts_of

Start = Callable[[], EngineCall]


def asking(
    start: Callable[[Mapping[str, Any]], EngineCall],
    body: Mapping[str, Any],
    asked: Asked,
    *,
    still: Callable[[], None],
) -> Start:
    """Return what asks an engine, once or for each prompt in turn.

    Args:
        start: Sends one body.
        body: What the engine is asked, with the first prompt.
        asked: The request.
        still: Raises where the next prompt is not to be asked any more.
    """
    if not asked.more_prompts:
        return partial(start, body)
    starts = [partial(start, {**body, "prompt": prompt}) for prompt in asked.prompts]
    return partial(InTurn, starts, answers=asked.answers, still=still)


class InTurn(AskedInTurn):
    """The calls of several prompts as one; see `appliance.gateway.calls.EngineCall`.

    Args:
        starts: Ask the engine, one for each prompt; the first is called at once.
        answers: How many each has.
        still: Called before each further one; raises where that is not to be asked any more.

    Raises:
        EngineUnavailableError: Nobody listens.
    """

    def __init__(self, starts: Sequence[Start], *, answers: int, still: Callable[[], None] = lambda: None) -> None:
        super().__init__(starts, still=still)
        self._answers = answers

    def answer(self) -> dict[str, Any]:
        """Return the answers to all prompts as one, with the tokens of all."""
        choices: list[Any] = []
        counted: list[Usage | None] = []
        for number, call in enumerate(self._in_turn()):
            untrusted = call.answer()
            moved, usage = self._moved(untrusted, number)
            choices += moved
            counted.append(usage)
        return {**untrusted, "choices": choices, "usage": _sum(counted)}

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events of all, one prompt's after another's, and the tokens of all last."""
        counted: list[Usage | None] = []
        for number, call in enumerate(self._in_turn()):
            usage: Usage | None = None
            for untrusted in call.events():
                try:
                    moved, told = self._moved(untrusted, number)
                except EngineProtocolError:
                    self.misspoke()
                    raise
                usage = told or usage
                event = {name: said for name, said in untrusted.items() if name != "usage"}
                yield {**event, "choices": moved}
            counted.append(usage)
        yield {"choices": [], "usage": _sum(counted)}

    def _moved(self, untrusted: Mapping[str, Any], number: int) -> tuple[list[Any], Usage | None]:
        """Return an answer's choices under the numbers that they have for the caller, and its tokens.

        Raises:
            EngineProtocolError: The engine reports a failure, or there is another answer than was asked for.
        """
        usage = None
        for part in parts_of(untrusted):  # the shape of all of it
            usage = part if isinstance(part, Usage) else usage
        choices = untrusted.get("choices", [])
        if any(not 0 <= one.get("index", 0) < self._answers for one in choices):
            raise broken("there is another answer than was asked for")
        return [{**one, "index": one.get("index", 0) + number * self._answers} for one in choices], usage


def _sum(counted: Sequence[Usage | None]) -> dict[str, Any] | None:
    """Return the tokens of all, as an engine tells them; None where of one prompt nobody counted them."""
    known = [one for one in counted if one is not None]
    if len(known) < len(counted):
        return None
    return Usage(
        prompt_tokens=sum(one.prompt_tokens for one in known),
        completion_tokens=sum(one.completion_tokens for one in known),
        dropped_tokens=sum(one.dropped_tokens for one in known),
        thought_tokens=sum(one.thought_tokens for one in known),
    ).to_json()
