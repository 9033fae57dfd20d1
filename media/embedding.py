"""The part of a model's profile that says whether and how it makes embeddings; part of what is approved.

Without it a version makes none. The vectors are those of a GGUF file of their own (role `embedding` in the descriptor),
or, where there is none, the pooled states of the version's own weights.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal, Self, get_args

from media import canonical

Pooling = Literal["mean", "cls", "last"]
POOLINGS: Final[tuple[Pooling, ...]] = get_args(Pooling)
ROLE: Final = "embedding"
"""What a descriptor calls the file with weights for embeddings alone."""
MOST_DIMENSIONS: Final = 65_536
MOST_TOKENS: Final = 65_536
EMBEDDING_BATCH_TOKENS: Final = 256
"""Tokens that are read at once, where one text has no more: a batch holds answers up for as long as it takes."""
EMBEDDING_BATCH_TEXTS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingProfile:
    """How one version makes vectors.

    Attributes:
        pooling: What becomes of the states of a text's tokens: their mean, the first one, the last one.
        n_ctx: Tokens that one text may have.
        dimensions: Numbers in a vector.
        matryoshka: Whether the publisher says that a vector's beginning is a vector, too.
    """

    pooling: Pooling
    n_ctx: int
    dimensions: int
    matryoshka: bool = False

    @classmethod
    def from_json(cls, untrusted: Any, what: str) -> Self:
        """Read the table `runtime.embedding` of a descriptor.

        Raises:
            MalformedError: A member is missing, unknown, of another type or out of range.
        """
        fields = canonical.exact_keys(
            canonical.mapping(untrusted, what), ("pooling", "n_ctx", "dimensions", "matryoshka"), what=what
        )
        return cls(
            pooling=canonical.one_of(fields["pooling"], POOLINGS, f"{what}.pooling"),
            n_ctx=canonical.integer(fields["n_ctx"], f"{what}.n_ctx", minimum=1, maximum=MOST_TOKENS),
            dimensions=canonical.integer(
                fields["dimensions"], f"{what}.dimensions", minimum=1, maximum=MOST_DIMENSIONS
            ),
            matryoshka=canonical.boolean(fields["matryoshka"], f"{what}.matryoshka"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the table."""
        return {
            "pooling": self.pooling,
            "n_ctx": self.n_ctx,
            "dimensions": self.dimensions,
            "matryoshka": self.matryoshka,
        }
