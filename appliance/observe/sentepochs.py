"""Which epochs of the ledger the collector was sent, so that after restores it gets all that it does not have.

The cursor knows the last record that was sent. Whether those before it are still the ledger's is known by the epochs
that they were of: what a restore ended, and began anew elsewhere, is sent from the place where the two part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from appliance.audit.epochs import MOST, RESTORED
from appliance.audit.facts import Ledger
from media import canonical, durable
from media.errors import MediaError

FILE: Final = "epochs.json"
FORMAT: Final = 1
_WHAT: Final = "the epochs that were sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentEpochs:
    """Epochs in order, each by its origin and the number of its first record."""

    begun: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, ledger: Ledger, before: int | None = None) -> Self:
        """Return the epochs of a ledger; only those that begin before a record, where one is given.

        Raises:
            LedgerUnavailableError: It does not answer.
        """
        first = ledger.leaves(0, 1)
        found = [(leaf.origin, leaf.sequence) for leaf in (*first, *ledger.leaves(1, MOST, kinds=[RESTORED]))]
        return cls(begun=tuple(one for one in found if before is None or one[1] < before))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return what was kept; nothing where nothing was, or its file does not read."""
        try:
            value = canonical.exact_keys(
                canonical.loads_canonical((folder / FILE).read_bytes()), ("epochs", "format"), (), _WHAT
            )
            canonical.integer(value["format"], _WHAT, minimum=FORMAT, maximum=FORMAT)
            return cls(begun=tuple(map(_epoch, canonical.array(value["epochs"], _WHAT, most=MOST + 1))))
        except (OSError, MediaError):
            return cls()

    def write(self, folder: Path) -> None:
        """Keep it; it is on the disk when this returns.

        Raises:
            OSError: The disk refuses.
        """
        epochs = [{"origin": origin, "first": first} for origin, first in self.begun]
        durable.replace(folder / FILE, canonical.dumps({"epochs": epochs, "format": FORMAT}), mode=0o600)

    def common(self, now: Sequence[tuple[str, int]], sequence: int) -> int:
        """Return how many records are surely the same in what was sent and in a ledger that has other ones meanwhile.

        Args:
            now: The epochs of the ledger.
            sequence: How many records were sent.
        """
        sent = [one for one in self.begun if one[1] < sequence]
        for mine, its in zip(sent, now, strict=False):
            if mine != its:
                return min(mine[1], its[1])
        if len(sent) > len(now):
            return sent[len(now)][1]
        if len(sent) < len(now):
            # Of what a release before this one sent no epoch is known: those of the first are the same in any case.
            return min(now[max(len(sent), 1)][1] if len(now) > 1 else 0, sequence)
        return now[-1][1] if now else 0  # other records of one epoch: no restore made them


def _epoch(untrusted: Any) -> tuple[str, int]:
    value = canonical.exact_keys(untrusted, ("first", "origin"), (), _WHAT)
    return canonical.text(value["origin"], _WHAT), canonical.integer(value["first"], _WHAT)
