"""A list of texts whose vectors are more than one answer of an engine may be: asked a slice at a time, as one call.

Each slice is read into vectors before the next one is asked, so that no more than one answer is held as text.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from appliance.gateway.calls import AskedInTurn, EngineCall
from appliance.gateway.vectors import Made, read_vectors
from appliance.serve.client import MAX_ANSWER_BYTES
from media.embedding import EmbeddingProfile

_NUMBER_BYTES: Final = 26
"""Of a number of a vector as text, with what parts it from the next: some engines write no base64."""
_AROUND_BYTES: Final = 256
_T = TypeVar("_T")


def sliced(inputs: Sequence[_T], profile: EmbeddingProfile) -> list[Sequence[_T]]:
    """Return a request's texts in slices, in order, each of whose answers an engine's answer has room for."""
    most = max(MAX_ANSWER_BYTES // (_NUMBER_BYTES * profile.dimensions + _AROUND_BYTES), 1)
    return [inputs[at : at + most] for at in range(0, len(inputs), most)]


class InSlices(AskedInTurn):
    """The calls of all slices as one; see `appliance.gateway.calls.EngineCall`.

    Args:
        slices: What is asked, in turn; the first is asked at once.
        start: Asks the engine.
        profile: What the vectors are held against.
        still: Called before each further slice; raises where that is not to be asked any more.

    Raises:
        EngineUnavailableError: Nobody listens.
    """

    def __init__(
        self,
        slices: Sequence[Sequence[Any]],
        *,
        start: Callable[[Sequence[Any]], EngineCall],
        profile: EmbeddingProfile,
        still: Callable[[], None],
    ) -> None:
        super().__init__([partial(start, asked) for asked in slices], still=still)
        self._slices = slices
        self._profile = profile

    def answer(self) -> dict[str, Any]:
        """Return the vectors of all as `made`, in order, and as `tokens` how many were read, None where nobody counted.

        Raises:
            Problem: The caller left between two slices, or the next one is not to be asked any more.
            EngineProtocolError: What came are no such vectors; see `read_vectors`, and `EngineCall` for more.
        """
        made: list[Made] = []
        tokens: int | None = 0
        for asked, call in zip(self._slices, self._in_turn(), strict=True):
            vectors, counted = read_vectors(
                call.answer(),
                count=len(asked),
                dimensions=self._profile.dimensions,
                most_tokens=self._profile.n_ctx,
            )
            made += vectors
            tokens = None if tokens is None or counted is None else tokens + counted
        return {"made": tuple(made), "tokens": tokens}

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the one answer: vectors are not streamed."""
        yield self.answer()
