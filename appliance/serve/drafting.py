"""What a small model guesses of an answer, so that the large one judges several tokens in one step (requirement C25).

This is speculative decoding (Leviathan, Kalman and Matias 2023) in its exact form: every token is drawn by the answer's
own sampler from the large model's scores, and a guess counts only where it is what was drawn anyway. So an answer is
what it would be without guesses, but for how the backend rounds a step of another width.

Rules:
    DRAFT-1 It guesses for one answer alone, while nobody else answers, reads or waits: else a step has rows enough.
    DRAFT-2 What it read for one salt is gone before it reads for another (PLACE-1).
    DRAFT-3 It reads behind for about a fifth of a second a step, as the large one reads prompts (`curve.Plan.chunk`),
            and is silent until it has caught up: whoever comes meanwhile waits for it.
    DRAFT-4 It says no more than it is sure of, and asks for less where its guesses were not taken.
    DRAFT-5 What it computes for one who left ends in the middle, as a step of the large one does (`unwanted`).
"""

import math
from collections.abc import Callable, Sequence
from typing import Final, Self

from appliance.errors import EngineLoadError, EngineProtocolError
from appliance.serve.curve import STEP_SECONDS
from appliance.serve.engine import Decoder, Row, Sampling
from appliance.serve.places import common_start
from media.clock import Clock

_LEAST_SURE: Final = math.log(0.6)
_SEQUENCE: Final = 0
_FIRST_READ: Final = 16
"""Tokens that are read at once before it is known how long they take."""
_Run = Callable[[Decoder, Sequence[Row]], bool]


class Drafter:
    """Guesses with a small model of the same vocabulary. Called by the thread that decodes, and no other.

    Args:
        decoder: The small model; its first sequence is used.
        most: Tokens that are guessed in one step at most.
        clock: Times what it reads.
    """

    def __init__(self, decoder: Decoder, *, most: int, clock: Clock) -> None:
        self._is_out = False
        self._decoder = decoder
        self._clock = clock
        self._chunk = min(_FIRST_READ, decoder.batch_tokens)
        self._most = most
        self._now = most
        self._salt = ""
        self._held: list[int] = []
        decoder.begin(_SEQUENCE, Sampling(temperature=0))

    @classmethod
    def beside(cls, large: Decoder, small: Decoder, *, most: int, clock: Clock) -> Self:
        """Return what guesses for a large model.

        Raises:
            EngineLoadError: The small one has another vocabulary.
        """
        if small.vocabulary_tokens != large.vocabulary_tokens:
            raise EngineLoadError(
                what="the draft model cannot guess for this one",
                why=f"it has {small.vocabulary_tokens} tokens, and the model {large.vocabulary_tokens}",
                fix="ask the sender for one with the same vocabulary",
            )
        return cls(small, most=most, clock=clock)

    def guess(self, tokens: Sequence[int], *, salt: str, most: int, run: _Run) -> list[int]:
        """Return what may follow `tokens`: up to `most` tokens, none where nothing is likely enough.

        A small model that fails is out: answers go on without it.

        Args:
            tokens: The prompt and the answer so far.
            salt: Whose prompt it is.
            most: Tokens that may still follow.
            run: Runs a step of a decoder; False where nobody wanted it to its end.
        """
        wanted = 0 if self._is_out else min(most, self._now)
        try:
            return self._guess(tokens, salt, wanted, run) if wanted > 0 else []
        except EngineProtocolError:
            self._is_out = True
            return []

    def learn(self, guessed: int, kept: int) -> None:
        """Hear how many of its guesses were taken: it asks for two more next time where all were, else for one less."""
        self._now = min(self._now + 2, self._most) if kept == guessed else max(self._now - 1, 1)

    def _guess(self, tokens: Sequence[int], salt: str, wanted: int, run: _Run) -> list[int]:
        if salt != self._salt:
            self._keep(0)
            self._salt = salt
        # The newest token is read again where nothing else is to be read: its scores are wanted.
        self._keep(min(common_start(self._held, tokens), len(tokens) - 1))
        row = self._catch_up(tokens[len(self._held) :], run)
        guesses: list[int] = []
        while row is not None and len(self._held) >= len(tokens) and len(guesses) < wanted:
            token = self._decoder.sample(_SEQUENCE, row)
            is_sure = self._decoder.likelihood(row, token, 0).logprob >= _LEAST_SURE
            if not is_sure or self._decoder.is_end(token):
                break
            guesses.append(token)
            if len(guesses) < wanted:
                row = self._read([token], run)
        return guesses

    def _keep(self, tokens: int) -> None:
        if tokens < len(self._held):
            del self._held[tokens if self._decoder.cut(_SEQUENCE, tokens) else 0 :]

    def _catch_up(self, behind: Sequence[int], run: _Run) -> int | None:
        began = self._clock.monotonic()
        row = self._read(behind[: self._chunk], run)
        if len(behind) >= self._chunk and row is not None:
            # In proportion: rather too few than too many, since a step costs something whatever it reads.
            tokens = round(self._chunk * STEP_SECONDS / max(self._clock.monotonic() - began, 1e-6))
            self._chunk = min(max(tokens, 1), self._decoder.batch_tokens)
        return row

    def _read(self, tokens: Sequence[int], run: _Run) -> int | None:
        """Decode tokens behind what is held; return the row of the last, None where nobody wanted it to its end."""
        first, last = len(self._held), len(tokens) - 1
        rows = [
            Row(token=token, position=first + at, sequence=_SEQUENCE, wants_logits=at == last)
            for at, token in enumerate(tokens)
        ]
        if not run(self._decoder, rows):
            if not self._decoder.cut(_SEQUENCE, first):
                self._held.clear()
            return None
        self._held.extend(tokens)
        return last
