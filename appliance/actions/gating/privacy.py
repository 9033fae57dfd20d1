"""The gate of privacy: nothing of a patient reaches the engine, and no answer holds anything of another.

The gateway's own protection is put in front of the test engine by `appliance.gateway.leakcheck`, in a process of its
own: actions do not know the gateway, and what is tried is exactly what serves.
"""

import subprocess
import sys
from collections.abc import Mapping
from typing import Final

from appliance.actions.gating.bench import Bench, Verdict
from appliance.errors import UnitError
from media import canonical
from media.errors import SealiftError

_GATE: Final = "privacy"
_SECONDS: Final = 1800
_MAX_BYTES: Final = 16 * 1024
_NONE_MAY_BE: Final = {
    "to_engine": "identifiers reached the engine",
    "from_engine": "identifiers came from the engine, which was told none",
    "foreign": "identifiers of one patient were in the answer to another",
    "crossed": "one conversation ran into another",
    "recorded": "identifiers are in the ledger",
    "failed": "requests had no answer",
}
_COUNTS: Final = ("patients", "identifiers", *_NONE_MAY_BE, "restored", "unknown_tokens")


def privacy(bench: Bench) -> Verdict:
    """Let invented patients ask, and judge what was counted."""
    counts = dict(bench.leaks(bench))
    failures = [f"{words}: {counts[name]}" for name, words in _NONE_MAY_BE.items() if counts[name]]
    return Verdict(gate=_GATE, passed=not failures, figures=counts, why="; ".join(failures))


def through_the_gateway(bench: Bench) -> Mapping[str, int]:
    """Run the check in a process of its own; see `bench.Leaks`."""
    command = [sys.executable, "-I", "-m", "appliance.gateway.leakcheck", "--engine", str(bench.engine.path)]
    command += ["--model-digest", bench.descriptor.model_digest, "--patients", str(bench.policy.privacy.patients)]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=_SECONDS)
        fields = canonical.exact_keys(canonical.loads(done.stdout, max_bytes=_MAX_BYTES), _COUNTS, what="leak counts")
        return {name: canonical.integer(fields[name], name) for name in _COUNTS}
    except (OSError, subprocess.SubprocessError, SealiftError) as error:
        raise UnitError(
            what="the gateway's protection could not be tried", why=type(error).__name__, fix="validate again"
        ) from error
