"""What became of each model when it was opened once: what the scan statement says, and what is remembered."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from bundler.cache import Cache
from bundler.errors import ScanError
from bundler.scanning import sandbox
from media.canonical import mapping
from media.errors import MalformedError

MEMO: Final = "loaded"
_LEAST_SECONDS: Final = 120
_BYTES_A_SECOND: Final = 20 * 2**20
_SPARE_MEMORY: Final = 4 * 2**30
_VERDICTS: Final = {
    3: "refused to load it",
    4: "could not make a context for it",
    5: "could not decode a token with it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What became of one model; where it was not loaded, `reason` says why, and nothing else is claimed."""

    model: str
    weights_sha256: str = ""
    engine: str = ""
    engine_wheel_sha256: str = ""
    loaded: bool = False
    reason: str = ""
    sandbox: str = ""
    vocabulary: int = 0
    milliseconds: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return what the scan statement says."""
        return asdict(self)


def limits_for(length: int, threads: int) -> sandbox.Limits:
    """Return what opening weights of so many bytes may use."""
    seconds = _LEAST_SECONDS + length // _BYTES_A_SECOND
    return sandbox.Limits(memory=2 * length + _SPARE_MEMORY, seconds=seconds, cpu_seconds=seconds * threads)


def remembered(cache: Cache, key: str, name: str) -> Load | None:
    """Return the load that is remembered under a key, for a model of this name; None where there is none."""
    memo = cache.recall(MEMO, key)
    try:
        known = Load(**{**mapping(memo, "a remembered load"), "model": name})
    except (MalformedError, TypeError):
        return None
    return known if known.loaded is True else None


def facts_of(ended: sandbox.Ended, level: str) -> dict[str, Any]:
    """Return what the script told last, once what it told first shows that nothing was within its reach.

    Raises:
        ScanError: Something was.
    """
    told: list[dict[str, Any]] = []
    for line in ended.output.splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        told += [value] if isinstance(value, dict) else []
    around = told[0] if told else {}
    seen = around.get("interfaces")
    reach = [key for key in ("sees_machine", "can_write", "can_gain_rights") if around.get(key) is not False]
    if told and (seen != ["lo"] or (level == sandbox.ISOLATED and reach)):
        raise ScanError(
            what="the sandbox is not what it should be",
            why=f"interfaces {seen!r:.80}; {', '.join(reach) or 'nothing else'}",
            fix="report it with the kernel's version; no model was loaded",
        )
    return told[-1] if told else {}


def failed(name: str, engine: str, ended: sandbox.Ended, seconds: int) -> ScanError:
    """Return the error about a model that an engine did not survive, or refused."""
    if ended.is_late:
        verdict = f"was still busy with it after {seconds} seconds"
    elif ended.signal_name:
        verdict = f"crashed on it with {ended.signal_name}"
    else:
        verdict = _VERDICTS.get(ended.code, f"ended with code {ended.code}")
    lines = [line.strip() for line in ended.errors.splitlines() if line.strip()][-4:]
    said = "".join(letter if letter.isprintable() else "?" for letter in " | ".join(lines))[-600:]
    return ScanError(
        what=f"{name} may not travel: the engine that would serve it {verdict}",
        why=f"{engine}{': ' if said else ''}{said}",
        fix="load this file nowhere; take it from its publisher again, or pin an engine that knows it",
    )
