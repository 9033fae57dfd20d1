"""What happens to identifiers in a request: each API key is set to tokenise, pass or block.

Detection runs in every mode, because findings are counted in every mode; where it fails, the request is refused.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum

from appliance.errors import PhiBlockedError, PhiUnavailableError
from appliance.phi.detect import Detector
from appliance.phi.tokens import Masked, TokenMap, UnwantedError, mask


class PhiMode(StrEnum):
    """What a key's requests do with identifiers."""

    TOKENISE = "tokenise"
    PASS = "pass"  # noqa: S105 - a policy's name
    BLOCK = "block"


def protect(
    texts: Sequence[str], *, mode: PhiMode, detector: Detector, is_wanted: Callable[[], bool] = lambda: True
) -> Masked:
    """Return `texts` as the engine may see them; `is_wanted` tells between two of them whether anybody waits still.

    Raises:
        UnwantedError: Nobody does.
        PhiBlockedError: The key's mode is block and something was found.
        PhiUnavailableError: The detector failed; whether there is an identifier is not known.
    """
    try:
        masked = mask(texts, detector, is_wanted=is_wanted)
    except UnwantedError:
        raise
    except Exception as error:  # noqa: BLE001 - a detector that fails in any way means refusal
        raise PhiUnavailableError(
            what="the search for patient identifiers failed",
            why=type(error).__name__,
            fix="report this; nothing of the request was sent to the engine",
        ) from None
    if mode is PhiMode.BLOCK and masked.counts:
        raise PhiBlockedError(
            what="the request holds patient identifiers",
            why=", ".join(f"{one}={count}" for one, count in sorted(masked.counts.items())),
            fix="remove them, or use a key that tokenises",
        )
    if mode is PhiMode.PASS:
        return Masked(texts=tuple(texts), counts=masked.counts, tokens=TokenMap())
    return masked
