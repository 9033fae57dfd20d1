"""What a small model guesses of an answer, so that the large one judges several tokens in one step (requirement C25).

This is speculative decoding (Leviathan, Kalman and Matias 2023) in its exact form: every token is drawn by the answer's
own sampler from the large model's scores, and a guess counts only where it is what was drawn anyway. So an answer is
what it would be without guesses, but for how the backend rounds a step of another width.

Rules:
    DRAFT-1 It guesses for one answer alone, while nobody else answers, reads or waits: else a step has rows enough.
    DRAFT-2 What it read for one salt is gone before it reads for another (PLACE-1).
    DRAFT-3 It reads behind by no more than one batch a step, and is silent until it has caught up.
    DRAFT-4 It says no more than it is sure of, and asks for less where its guesses were not taken.
"""

import math
from collections.abc import Sequence
from typing import Final, Self

from appliance.errors import EngineLoadError, EngineProtocolError
from appliance.serve.engine import Decoder, Row, Sampling
from appliance.serve.places import common_start

_LEAST_SURE: Final = math.log(0.6)
_SEQUENCE: Final = 0


class Drafter:
    """Guesses with a small model of the same vocabulary. Called by the thread that decodes, and no other.

    Args:
        decoder: The small model; its first sequence is used.
        most: Tokens that are guessed in one step at most.
    """

    def __init__(self, decoder: Decoder, *, most: int) -> None:
        self._is_out = False
        self._decoder = decoder
        self._most = most
        self._now = most
        self._salt = ""
        self._held: list[int] = []
        decoder.begin(_SEQUENCE, Sampling(temperature=0))

    @classmethod
    def beside(cls, large: Decoder, small: Decoder, *, most: int) -> Self:
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
        return cls(small, most=most)

    def guess(self, tokens: Sequence[int], *, salt: str, most: int) -> list[int]:
        """Return what may follow `tokens`: up to `most` tokens, none where nothing is likely enough.

        A small model that fails is out: answers go on without it.

        Args:
            tokens: The prompt and the answer so far.
            salt: Whose prompt it is.
            most: Tokens that may still follow.
        """
        wanted = 0 if self._is_out else min(most, self._now)
        try:
            return self._guess(tokens, salt, wanted) if wanted > 0 else []
        except EngineProtocolError:
            self._is_out = True
            return []

    def learn(self, guessed: int, kept: int) -> None:
        """Hear how many of its guesses were taken: it asks for two more next time where all were, else for one less."""
        self._now = min(self._now + 2, self._most) if kept == guessed else max(self._now - 1, 1)

    def _guess(self, tokens: Sequence[int], salt: str, wanted: int) -> list[int]:
        if salt != self._salt:
            self._keep(0)
            self._salt = salt
        # The newest token is read again where nothing else is to be read: its scores are wanted.
        self._keep(min(common_start(self._held, tokens), len(tokens) - 1))
        behind = tokens[len(self._held) : len(self._held) + self._decoder.batch_tokens]
        row = self._read(behind)
        guesses: list[int] = []
        while len(self._held) >= len(tokens) and len(guesses) < wanted:
            token = self._decoder.sample(_SEQUENCE, row)
            is_sure = self._decoder.likelihood(row, token, 0).logprob >= _LEAST_SURE
            if not is_sure or self._decoder.is_end(token):
                break
            guesses.append(token)
            if len(guesses) < wanted:
                row = self._read([token])
        return guesses

    def _keep(self, tokens: int) -> None:
        if tokens < len(self._held):
            del self._held[tokens if self._decoder.cut(_SEQUENCE, tokens) else 0 :]

    def _read(self, tokens: Sequence[int]) -> int:
        """Decode tokens behind what is held; return the row of the last."""
        first, last = len(self._held), len(tokens) - 1
        rows = [
            Row(token=token, position=first + at, sequence=_SEQUENCE, wants_logits=at == last)
            for at, token in enumerate(tokens)
        ]
        self._decoder.decode(rows)
        self._held.extend(tokens)
        return last
