"""Finds out which of OpenAI's words a server takes, by what its answers become: many pass over what they do not know.

Rules:
    TRIAL-1 A word is taken only where an answer with it is what it must be, and one without it is not.
    TRIAL-2 A server that keeps prompts reads one sooner when it comes again. Where it does not say what it knew, two
            of three prompts that nobody asked before must take their time again, and a prompt takes at least twice as
            long as next to none, or nothing is shown.
    TRIAL-3 A server rounds otherwise now and then, so what is not seen is looked for three times.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from appliance.errors import EngineRefusedError
from appliance.serve import attached_older as older

WARM: Final = 2.0
"""A temperature at which hardly any answer is the likeliest."""
_SEEDS: Final = (1, 2)
_DRAWN_TOKENS: Final = 12
_STOPPED_TOKENS: Final = 24
_TIRED_TOKENS: Final = 48
"""So many that some come again, as commas do, which a penalty makes less likely than something else."""
_LEAST_CHARACTERS: Final = 8
ROUNDS: Final = 3
"""Of prompts that are read twice, where nothing else says whether they are kept."""
_TRIES: Final = 3
_CUTS: Final = (1 / 2, 1 / 3, 2 / 3)
"""Where in an answer a stop text is looked for; some servers see one only where a token ends."""
_SOONER: Final = 0.5
"""Of a prompt's own time: one that takes less when it comes again was kept."""
_ONE_TOKEN: Final[Mapping[str, float]] = {"top_p": 0.0001, "top_k": 1, "min_p": 1.0}
"""With each of these the likeliest token alone is left."""
_PENALTIES: Final[Mapping[str, float]] = {"repetition_penalty": 1.9, "frequency_penalty": 2.0, "presence_penalty": 2.0}
NEUTRAL: Final[Mapping[str, float]] = {
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
}
"""What each word is where nobody wants anything of it."""


class Says(Protocol):
    """Asks for at most so many tokens after a prompt, by words of OpenAI's; returns the whole answer's text."""

    def __call__(self, prompt: Sequence[int], most: int, **more: Any) -> str:
        """Ask.

        Raises:
            EngineProtocolError, EngineRefusedError, EngineUnavailableError: It did not answer.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What was found out.

    Attributes:
        words: The words that change answers as they should.
        said: Those that it does not refuse where nobody wants anything of them, so that none of its own defaults
            decides.
        stops: Whether an answer ends at a stop text, before or behind it.
    """

    words: frozenset[str]
    said: frozenset[str]
    stops: bool


def find_out(says: Says, prompt: Sequence[int]) -> Taken:
    """Return which words a server takes (TRIAL-1).

    Raises:
        EngineProtocolError, EngineUnavailableError: It did not answer.
    """
    found = frozenset((*_drawn(says, prompt), *_penalties(says, prompt)))
    said = frozenset(name for name in NEUTRAL if _is_said(says, prompt, name))
    return Taken(words=found, said=said, stops=_stops(says, prompt))


def require_seeds(says: Says, prompt: Sequence[int]) -> None:
    """Pass when one seed gives one answer, and not all seeds the same.

    Raises:
        EngineLoadError: It does not honour a seed.
        EngineProtocolError, EngineUnavailableError: It did not answer.
    """
    for _ in range(_TRIES):
        try:
            told = [says(prompt, _DRAWN_TOKENS, temperature=WARM, seed=seed) for seed in (3, 3, 4, 5)]
        except EngineRefusedError:
            break
        if told[0] == told[1] and len(set(told)) > 1:
            return
    raise older.unfit("it does not honour a seed", "use an engine, or a way to start it, that does")


def is_kept(
    read: Callable[[Sequence[int]], object], prompts: Sequence[Sequence[int]], *, short: Sequence[int]
) -> bool | None:
    """Return whether a server reads a prompt sooner when it comes again (TRIAL-2); None where nothing shows it.

    Args:
        read: Lets it read a prompt.
        prompts: Long ones, which begin differently and nobody asked before.
        short: One that takes next to no time by itself.
    """
    bare = min(_seconds(read, short) for _ in range(_TRIES))
    anew = sooner = 0
    for prompt in prompts:
        first, second = (_seconds(read, one) for one in (prompt, prompt))
        if first < 2 * bare:
            continue
        if second - bare >= _SOONER * (first - bare):
            anew += 1
        else:
            sooner += 1
        if anew > len(prompts) // 2:
            return False
    return True if sooner > len(prompts) // 2 else None


def _seconds(read: Callable[[Sequence[int]], object], prompt: Sequence[int]) -> float:
    began = time.monotonic()
    read(prompt)
    return time.monotonic() - began


def _drawn(says: Says, prompt: Sequence[int]) -> Iterator[str]:
    likeliest = says(prompt, _DRAWN_TOKENS)
    if all(says(prompt, _DRAWN_TOKENS, temperature=WARM, seed=seed) == likeliest for seed in _SEEDS):
        return  # nothing would be seen
    for name, value in _ONE_TOKEN.items():
        for _ in range(_TRIES):
            try:
                told = [says(prompt, _DRAWN_TOKENS, temperature=WARM, seed=seed, **{name: value}) for seed in _SEEDS]
            except EngineRefusedError:
                break
            if all(one == likeliest for one in told):
                yield name
                break


def _penalties(says: Says, prompt: Sequence[int]) -> Iterator[str]:
    for _ in range(_TRIES):
        plain, once_more = (says(prompt, _TIRED_TOKENS) for _ in range(2))
        if plain == once_more:
            break
    else:
        return  # what differs may differ by itself
    for name, value in _PENALTIES.items():
        try:
            told = says(prompt, _TIRED_TOKENS, **{name: value})
        except EngineRefusedError:
            continue
        if told != plain:
            yield name


def _is_said(says: Says, prompt: Sequence[int], name: str) -> bool:
    try:
        says(prompt, 1, **{name: NEUTRAL[name]})
    except EngineRefusedError:
        return False
    return True


def _stops(says: Says, prompt: Sequence[int]) -> bool:
    whole = says(prompt, _STOPPED_TOKENS)
    if len(whole) < _LEAST_CHARACTERS:
        return False
    for cut in _CUTS:
        stop = whole[int(len(whole) * cut) :][:3]
        before = whole[: whole.index(stop)]
        try:
            told = says(prompt, _STOPPED_TOKENS, stop=[stop])
        except EngineRefusedError:
            return False
        if before and (told == before or (told.startswith(before + stop) and len(told) < len(whole))):
            return True
    return False
