"""The scan before anything is assembled: what may not travel is found here, or two people said by name why it may.

Rules, by the kind of file (docs/operator/scan.md says more of each):

    wheels      pth-file, shadows-stdlib, overlaps, foreign-shebang, pickle, secret, license-unknown;
                license-terms, license-text, programs and native-code are listed, not refused
                (a wheel that breaks its own format is refused outright, `wheelfile.py`)
    weights     malformed headers are refused outright; pickle, unexpected-file, rare-tokenizer;
                each model is loaded once by the engine that travels; not-loaded is listed where it cannot be
    models      pickle, remote-code, template, secret, patient-data, license-unknown, license-terms, license-text,
                unexpected-file, unpinned; quantization is listed
    evals       patient-data, secret
    ours        secret, build-path (playbooks, units, and the text of our own wheel)
    debs        nothing blocks; maintainer scripts and set-user-id files are listed for the people who sign
    all         malware and antivirus-stale, where a recipe asks for ClamAV

A recipe may allow a finding by path, rule and reason (`[[scan.allowed]]`); an allowance that matches nothing is
refused, so the list cannot rot. Every finding, allowed or listed, is in the signed scan statement.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Final

from bundler import leaks
from bundler.artifact import Artifact
from bundler.cache import Cache
from bundler.debfile import listed
from bundler.errors import ScanError
from bundler.process import Progress, quiet
from bundler.recipe import AcceptedLicence, AllowedFinding
from bundler.scanning import antivirus, models, prompts, wheels
from bundler.scanning.engineload import Load, load_models
from bundler.scanning.findings import CHECKS, LISTED, Finding, Tally, finding, leaked
from media.clock import Clock
from media.errors import MediaError

__all__ = ["RULES", "Antivirus", "Examination", "Finding", "Loading", "ScanReport", "examine", "scan"]

RULES: Final = (
    "antivirus-stale", "build-path", "foreign-shebang", "license-terms", "license-text", "license-unknown", "malware",
    "native-code", "not-loaded", "overlaps", "patient-data", "pickle", "programs", "pth-file", "quantization",
    "rare-tokenizer", "remote-code", "secret", "shadows-stdlib", "template", "unexpected-file", "unpinned",
)  # fmt: skip
MALFORMED: Final = "malformed"
"""What breaks its own format; no recipe can allow it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Antivirus:
    """ClamAV is wanted, with signatures of at most this age in days; `database` if not the machine's own."""

    max_age_days: int
    clock: Clock
    database: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """Models are loaded by engines for this version of Python; `cache` holds the engines and what was loaded."""

    python: str
    cache: Cache
    clock: Clock


@dataclass(slots=True, kw_only=True)
class Examination:
    """All that was found and done, before anyone judges it."""

    files: int
    tally: Tally = field(default_factory=Tally)
    findings: list[Finding] = field(default_factory=list)
    templates: list[dict[str, Any]] = field(default_factory=list)
    clamav: antivirus.Scanned | None = None
    loads: tuple[Load, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanReport:
    """A scan that found nothing that blocks."""

    files: int
    findings: tuple[Finding, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    templates: tuple[Mapping[str, Any], ...] = ()
    clamav: antivirus.Scanned | None = None
    loads: tuple[Load, ...] = ()

    def predicate(self) -> dict[str, Any]:
        """Return what the scan statement says (FMT-80 to FMT-84)."""
        return {
            "format": 2,
            "rules": list(RULES),
            "files": self.files,
            "result": "passed",
            "checks": [
                {"check": check, "version": CHECKS[check], "files": self.counts.get(check, 0)}
                for check in sorted(CHECKS)
            ],
            "findings": [
                {"path": found.path, "rule": found.rule, "detail": found.detail, "reason": found.reason}
                for found in self.findings
            ],
            "templates": [dict(template) for template in self.templates],
            "loads": [load.to_json() for load in self.loads],
            "antivirus": None if self.clamav is None else self.clamav.to_json(),
        }


def scan(
    artifacts: Sequence[Artifact],
    *,
    allowed: Sequence[AllowedFinding] = (),
    accepted: Sequence[AcceptedLicence] = (),
    clamav: Antivirus | None = None,
    loading: Loading | None = None,
    progress: Progress = quiet,
) -> ScanReport:
    """Check every file of the payload, and load each model once when nothing in it was refused.

    Args:
        artifacts: The payload.
        allowed: Findings that a recipe allows.
        accepted: Licences that a recipe accepts.
        clamav: ClamAV is asked too.
        loading: Models are loaded; without it they are not, and the statement has no word of it.
        progress: Told each step.

    Raises:
        ScanError: Something may not travel, or an allowance or acceptance matches nothing.
        MediaError: A record of a model does not read.
    """
    found = examine(artifacts, accepted=accepted, clamav=clamav, progress=progress)
    judged = _judged(found.findings, allowed)
    _require_used(artifacts, accepted)
    if loading is not None:
        found.loads = load_models(
            artifacts, python=loading.python, cache=loading.cache, clock=loading.clock, progress=progress
        )
        found.tally.add("load", sum(load.loaded for load in found.loads))
        judged += _not_loaded(found.loads)
    return ScanReport(
        files=found.files,
        findings=tuple(judged),
        counts=dict(found.tally.files),
        templates=tuple(found.templates),
        clamav=found.clamav,
        loads=found.loads,
    )


def examine(
    artifacts: Sequence[Artifact],
    *,
    accepted: Sequence[AcceptedLicence] = (),
    clamav: Antivirus | None = None,
    goes_on: bool = False,
    progress: Progress = quiet,
) -> Examination:
    """Look at every file and judge nothing.

    Args:
        artifacts: The payload.
        accepted: Licences that a recipe accepts.
        clamav: ClamAV is asked too.
        goes_on: Report a file that breaks its own format as a finding of the rule `malformed`, and look at the others.
        progress: Told each step.

    Raises:
        ScanError: A file breaks its own format, or a check could not be made.
        MediaError: A record of a model does not read.
    """
    progress(f"scanning {len(artifacts)} files")
    made = Examination(files=len(artifacts))
    licences = {entry.license: entry.reason for entry in accepted}
    for artifact in artifacts:
        _gather(made, partial(_one, artifact, made.tally, licences), artifact.target, goes_on=goes_on)
    malformed = {found.path for found in made.findings if found.rule == MALFORMED}
    sound = [artifact for artifact in artifacts if artifact.target not in malformed]
    _gather(made, lambda: wheels.overlaps(sound), "wheels", goes_on=goes_on)
    _gather(made, lambda: models.folders(sound), "models", goes_on=goes_on)
    _gather(made, lambda: prompts.check(sound, made.tally, made.templates), "templates", goes_on=goes_on)
    if clamav is not None:
        made.clamav = antivirus.run(
            artifacts,
            max_age_days=clamav.max_age_days,
            clock=clamav.clock,
            database=clamav.database,
            progress=progress,
        )
        made.tally.add("antivirus", made.clamav.files)
        made.findings += made.clamav.findings
    made.findings = list(dict.fromkeys(made.findings))
    return made


def _gather(made: Examination, check: Callable[[], Iterable[Finding]], path: str, *, goes_on: bool) -> None:
    try:
        for found in check():
            made.findings.append(found)
    except (ScanError, MediaError) as error:
        if not goes_on:
            raise
        made.findings.append(Finding(path=path, rule=MALFORMED, detail=f"{error.what}: {error.why}"))


def _judged(findings: Sequence[Finding], allowed: Sequence[AllowedFinding]) -> list[Finding]:
    judged: list[Finding] = []
    blocking: list[Finding] = []
    used: set[int] = set()
    for found in findings:
        number = next((n for n, entry in enumerate(allowed) if _matches(entry, found)), None)
        if found.reason:
            judged.append(found)
        elif number is None:
            blocking.append(found)
        else:
            used.add(number)
            judged.append(Finding(path=found.path, rule=found.rule, detail=found.detail, reason=allowed[number].reason))
    if blocking:
        raise _refused(blocking)
    for number, entry in enumerate(allowed):
        if number not in used:
            raise ScanError(
                what=f"scan.allowed.{number}: it matches no finding",
                why=f"{entry.rule} in {entry.path}",
                fix="remove it from the recipe",
            )
    return judged


def _refused(blocking: list[Finding]) -> ScanError:
    first = blocking[0]
    more = f"; {len(blocking) - 1} more findings" if len(blocking) > 1 else ""
    return ScanError(
        what=f"{first.path} may not travel: {first.rule}",
        why=f"{first.detail}{more}",
        fix="replace the file; or, when two people have looked, add [[scan.allowed]] with path, rule and reason",
    )


def _matches(entry: AllowedFinding, found: Finding) -> bool:
    return entry.rule == found.rule and fnmatchcase(found.path, entry.path)


def _require_used(artifacts: Sequence[Artifact], accepted: Sequence[AcceptedLicence]) -> None:
    stated = {" ".join(artifact.component.license.split()).casefold() for artifact in artifacts}
    for number, entry in enumerate(accepted):
        if " ".join(entry.license.split()).casefold() not in stated:
            raise ScanError(
                what=f"accept_licences.{number}: nothing here has this licence",
                why=entry.license,
                fix="remove it from the recipe, or spell it as the model or wheel states it",
            )


def _not_loaded(loads: Sequence[Load]) -> list[Finding]:
    return [
        Finding(path=f"data/models/{load.model}", rule="not-loaded", detail=load.reason, reason=LISTED)
        for load in loads
        if not load.loaded
    ]


def _one(artifact: Artifact, tally: Tally, accepted: Mapping[str, str]) -> Iterator[Finding]:
    if artifact.kind == "wheel":
        return wheels.check(artifact, tally, accepted)
    if artifact.kind == "model":
        return models.beside(artifact, tally, accepted)
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
    "weights": models.weights,
    "eval": _eval,
    "host": _ours,
    "server": _ours,
    "release": _ours,
    "deb": _deb,
}
