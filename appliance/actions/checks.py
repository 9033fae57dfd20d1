"""When each check of a receive began and how it ended, for the ledger and for paper; and which program made them."""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import appliance.store
import appliance.verify
import media
from appliance.verify.steps import Check
from media import canonical
from media.clock import Clock, to_text

HELD: Final = "held"
REFUSED: Final = "refused"
NOT_REACHED: Final = "not-reached"
NOT_MADE: Final = "not-made"


class Checklist:
    """The checks of one receive as they are made; the clock is read here and nowhere in the verifier."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began: dict[Check, str] = {}
        self._ended = ""

    def begin(self, check: Check) -> None:
        """Note that a check begins now, and so that the one before it held."""
        self._began.pop(check, None)
        self._began[check] = self._now()

    def end(self) -> None:
        """Note that the last check that began has ended now, well or not."""
        self._ended = self._now()

    def to_json(self, *, refused: bool) -> list[dict[str, str]]:
        """Return every check in order: held, refused, not made (one that this receive had no use for), or not reached.

        That it was recorded is no check of a record that is about to be written, only of one that could not be.

        Args:
            refused: The receive ended in the check that began last.
        """
        begun = list(self._began)
        last = begun[-1] if begun else Check.OPENED if refused else None
        order = list(Check)
        found = []
        for check in order:
            if check in begun:
                result = REFUSED if refused and check == last else HELD
                after = begun[begun.index(check) + 1 :]
                end = self._began[after[0]] if after else self._ended
            else:
                result = NOT_MADE if last is not None and order.index(check) < order.index(last) else NOT_REACHED
                result, end = (REFUSED if refused and check == last else result), ""
            if check != Check.RECORD or result == REFUSED:
                found.append({"check": str(check), "result": result, "at": self._began.get(check, ""), "end": end})
        return found

    def _now(self) -> str:
        return to_text(self._clock.now().replace(microsecond=0))


@cache
def verifier() -> Mapping[str, Any]:
    """Return version and digest of the code that verifies and stores: SHA-256 of the list of its files' digests."""
    files = []
    for package in (media, appliance.verify, appliance.store):
        folder = Path(str(package.__file__)).parent
        files += [
            [f"{package.__name__}/{path.name}", hashlib.sha256(path.read_bytes()).hexdigest()]
            for path in sorted(folder.glob("*.py"))
        ]
    return {"version": version("sealift"), "sha256": hashlib.sha256(canonical.dumps(files)).hexdigest()}
