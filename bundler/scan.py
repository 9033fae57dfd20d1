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

from collections.abc import Callable, Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from functools import partial

from bundler.artifact import Artifact
from bundler.errors import ScanError
from bundler.process import Progress, quiet
from bundler.recipe import AcceptedLicence, AllowedFinding
from bundler.scanning import antivirus, kinds, modelfolder, prompts, wheels
from bundler.scanning.engineload import load_models
from bundler.scanning.findings import LISTED, Finding
from bundler.scanning.loads import Load
from bundler.scanning.report import MALFORMED, RULES, Antivirus, Examination, Judged, Loading, ScanReport
from media.errors import MediaError

__all__ = ["RULES", "Antivirus", "Finding", "Judged", "Loading", "ScanReport", "examine", "judge", "scan"]


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
    judged, blocking, used = _sorted(found.findings, allowed, artifacts)
    if blocking:
        raise _refused(blocking)
    for number, entry in enumerate(allowed):
        if number not in used:
            raise ScanError(
                what=f"scan.allowed.{number}: it matches no finding",
                why=f"{entry.rule} in {entry.path}",
                fix="remove it from the recipe",
            )
    _require_used(artifacts, accepted)
    if loading is not None:
        judged += _load(found, artifacts, loading, progress)
    return found.report(judged)


def judge(
    artifacts: Sequence[Artifact],
    *,
    allowed: Sequence[AllowedFinding] = (),
    accepted: Sequence[AcceptedLicence] = (),
    clamav: Antivirus | None = None,
    loading: Loading | None = None,
    without: Collection[str] = (),
    progress: Progress = quiet,
) -> Judged:
    """Find everything there is to find, as `scan` does, but stop at nothing.

    A file that breaks its own format, and a model that its engine does not survive, are findings of the rule
    `malformed`, which nobody can allow. An allowance that matches nothing is passed over.

    Args:
        artifacts: As `scan` takes them, and all but the next.
        allowed: Findings that a recipe allows.
        accepted: Licences that a recipe accepts.
        clamav: ClamAV is asked too.
        loading: Models are loaded, where nothing else was refused.
        without: Rules whose findings are left out.
        progress: Told each step.

    Raises:
        ScanError: A check could not be made.
    """
    found = examine(artifacts, accepted=accepted, clamav=clamav, goes_on=True, progress=progress)
    found.findings = [each for each in found.findings if each.rule not in without]
    judged, refused, _ = _sorted(found.findings, allowed, artifacts)
    if loading is not None and not refused:
        try:
            judged += _load(found, artifacts, loading, progress)
        except ScanError as error:
            refused.append(Finding(path="models", rule=MALFORMED, detail=f"{error.what}: {error.why}"))
    return Judged(report=found.report(judged), refused=tuple(refused))


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
        _gather(made, partial(kinds.check, artifact, made.tally, licences), artifact.target, goes_on=goes_on)
    malformed = {found.path for found in made.findings if found.rule == MALFORMED}
    sound = [artifact for artifact in artifacts if artifact.target not in malformed]
    _gather(made, lambda: wheels.overlaps(sound), "wheels", goes_on=goes_on)
    _gather(made, lambda: modelfolder.folders(sound), "models", goes_on=goes_on)
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


def _sorted(
    findings: Sequence[Finding], allowed: Sequence[AllowedFinding], artifacts: Sequence[Artifact]
) -> tuple[list[Finding], list[Finding], set[int]]:
    """Return what is listed or allowed, what blocks, and which allowances were needed."""
    judged: list[Finding] = []
    blocking: list[Finding] = []
    used: set[int] = set()
    digests = {artifact.target: artifact.sha256 for artifact in artifacts}
    for found in findings:
        digest = digests.get(found.path.partition("!")[0])
        number = next((n for n, entry in enumerate(allowed) if _matches(entry, found, digest)), None)
        if found.reason:
            judged.append(found)
        elif number is None or found.rule == MALFORMED:
            blocking.append(found)
        else:
            used.add(number)
            judged.append(Finding(path=found.path, rule=found.rule, detail=found.detail, reason=allowed[number].reason))
    return judged, blocking, used


def _load(found: Examination, artifacts: Sequence[Artifact], loading: Loading, progress: Progress) -> list[Finding]:
    found.loads = load_models(
        artifacts, python=loading.python, cache=loading.cache, clock=loading.clock, progress=progress
    )
    found.tally.add("load", sum(load.loaded for load in found.loads))
    return _not_loaded(found.loads)


def _refused(blocking: list[Finding]) -> ScanError:
    first = blocking[0]
    more = f"; {len(blocking) - 1} more findings" if len(blocking) > 1 else ""
    return ScanError(
        what=f"{first.path} may not travel: {first.rule}",
        why=f"{first.detail}{more}",
        fix="read its terms and name them in [[accept_licences]], with a reason; or take another model"
        if first.rule == "license-terms"
        else "replace the file; or, when two people have looked, add [[scan.allowed]] with path, rule and reason",
    )


def _matches(entry: AllowedFinding, found: Finding, digest: str | None) -> bool:
    """Whether a finding is the one that people looked at; where they named a digest, in that very file."""
    is_file = entry.sha256 is None or entry.sha256 == digest
    return is_file and entry.rule == found.rule and fnmatchcase(found.path, entry.path)


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
