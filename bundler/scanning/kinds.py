"""Which checks a file gets, by the kind that it travels under."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from bundler import leaks
from bundler.artifact import Artifact
from bundler.debfile import listed
from bundler.scanning import modelfolder, wheels
from bundler.scanning.findings import LISTED, Finding, Tally, finding, leaked


def check(artifact: Artifact, tally: Tally, accepted: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what is found in one file, by the kind that it travels under.

    Raises:
        ScanError: It breaks its own format.
        MediaError: It is a record of ours and does not read.
    """
    if artifact.kind == "wheel":
        return wheels.check(artifact, tally, accepted)
    if artifact.kind == "model":
        return modelfolder.beside(artifact, tally, accepted)
    return _CHECKS[artifact.kind](artifact, tally)


def _eval(artifact: Artifact, tally: Tally) -> Iterator[Finding]:
    tally.add("secret")
    tally.add("clinical-data")
    yield from leaked(artifact, artifact.read(), (leaks.secrets, leaks.patient_data, leaks.clinical))


def _ours(artifact: Artifact, tally: Tally) -> Iterator[Finding]:
    tally.add("secret")
    yield from leaked(artifact, artifact.read(), wheels.text_rules(is_ours=True))


def _deb(artifact: Artifact, tally: Tally) -> Iterator[Finding]:
    if artifact.target.endswith(".deb") and artifact.file is not None:
        tally.add("deb")
        for rule, detail in listed(artifact.file):
            yield finding(artifact, rule, detail, reason=LISTED)


_CHECKS: Final[dict[str, Callable[[Artifact, Tally], Iterator[Finding]]]] = {
    "weights": modelfolder.weights,
    "eval": _eval,
    "host": _ours,
    "server": _ours,
    "release": _ours,
    "deb": _deb,
}
