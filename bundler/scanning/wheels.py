"""What may not travel in a wheel that keeps its own format, which `wheelfile.py` sees to, and what is listed of it.

Refused: code that runs at every start of Python, modules under the names of Python's own, files over another wheel's,
programs for another interpreter, pickled objects, secrets. Listed for the people who sign: the programs a wheel
installs, its native libraries, a licence that obliges, and a missing text of the licence.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from bundler import leaks, wheelfile
from bundler.artifact import Artifact
from bundler.errors import ScanError
from bundler.scanning import licences, pickles
from bundler.scanning.findings import LISTED, Finding, LeakRule, Tally, finding, leaked

_TEXT_BYTES: Final = 2 * 2**20
# In wheels, a package's own test data has .bin and .npy of every kind; only names that mean pickled objects are judged.
_PICKLE_NAMES: Final = frozenset({".pkl", ".pickle", ".joblib", ".ckpt"})
_START_FILES: Final = frozenset({"sitecustomize", "usercustomize"})
_NATIVE: Final = re.compile(r"\.(?:so|dylib|dll|pyd)(?:\.[0-9]+)*$")
_SCRIPT: Final = re.compile(r"^\s*([A-Za-z0-9_.-]+)\s*=\s*[A-Za-z0-9_.]+", re.MULTILINE)
_SHOWN: Final = 12
_OURS: Final = "sealift"


def text_rules(*, is_ours: bool) -> tuple[LeakRule, ...]:
    """Return what is searched for in text: more in what is ours to word."""
    return (leaks.secrets, leaks.assigned_secrets, leaks.build_paths) if is_ours else (leaks.secrets,)


def check(artifact: Artifact, tally: Tally, accepted: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what is found in one wheel.

    Raises:
        ScanError: It breaks its own format.
    """
    if artifact.file is None:
        raise ScanError(what=f"{artifact.target} is not a file", why="a wheel has a host file", fix="report it")
    tally.add("wheel")
    facts = wheelfile.read(artifact.file)
    yield from _licence(artifact, facts, accepted)
    for member in facts.members:
        yield from _member(artifact, facts, member)
    rules = text_rules(is_ours=facts.name == _OURS)
    programs = [PurePosixPath(member).name for member in facts.members if facts.is_script(member)]
    for member, data in wheelfile.members(artifact.file, limit=_TEXT_BYTES):
        tally.add("pickle")
        yield from _pickled(artifact, member, data)
        if facts.is_script(member) and data[:2] == b"#!" and not data.startswith(b"#!python"):
            yield finding(artifact, "foreign-shebang", "a program that starts another interpreter", member)
        if member.endswith(".dist-info/entry_points.txt"):
            programs += _entry_points(data)
        if b"\0" not in data[:8192]:
            tally.add("secret")
            yield from leaked(artifact, data, rules, member)
    yield from _listed(artifact, facts, programs)


def overlaps(artifacts: Sequence[Artifact]) -> Iterator[Finding]:
    """Find wheels that would install a file over another's: which one stays would hang on the order."""
    owners: dict[str, str] = {}
    for artifact in artifacts:
        if artifact.kind != "wheel" or artifact.file is None:
            continue
        for place in sorted(wheelfile.installed_paths(artifact.file)):
            other = owners.setdefault(place, artifact.component.name)
            if other != artifact.component.name:
                yield finding(artifact, "overlaps", f"{other} installs the same file", place)


def _licence(artifact: Artifact, facts: wheelfile.WheelFacts, accepted: Mapping[str, str]) -> Iterator[Finding]:
    if not facts.license:
        yield finding(artifact, "license-unknown", "its METADATA states no licence")
    elif not licences.is_permissive(facts.license):
        reason = licences.acceptance(facts.license, accepted) or LISTED
        yield finding(artifact, "license-terms", f"{facts.license[:100]}: see what it obliges to", reason=reason)
    if not any(".dist-info/" in member and licences.is_text(PurePosixPath(member).name) for member in facts.members):
        yield finding(artifact, "license-text", "it carries no text of its licence", reason=LISTED)


def _member(artifact: Artifact, facts: wheelfile.WheelFacts, member: str) -> Iterator[Finding]:
    suffix = PurePosixPath(member).suffix.lower()
    if suffix == ".pth":
        yield finding(artifact, "pth-file", "it runs code whenever Python starts", member)
    if suffix in _PICKLE_NAMES:
        yield finding(artifact, "pickle", "pickled objects run code when they are read", member)
    installed = facts.installed(member)
    if installed is None:
        return
    top = installed.parts[0].partition(".")[0]
    is_module = len(installed.parts) > 1 or installed.suffix in {".py", ".so", ".pyc"}
    if is_module and (top in sys.stdlib_module_names or top in _START_FILES):
        yield finding(artifact, "shadows-stdlib", f"{top} is a module of Python's own", member)


def _pickled(artifact: Artifact, member: str, data: bytes) -> Iterator[Finding]:
    if PurePosixPath(member).suffix.lower() in _PICKLE_NAMES:
        return
    if pickles.runs_code(data[: pickles.START_BYTES]):
        yield finding(artifact, "pickle", "by its content, pickled objects that run code when they are read", member)
    elif name := pickles.inside(data):
        yield finding(artifact, "pickle", f"an archive with pickled objects: {name!a}", member)


def _entry_points(data: bytes) -> list[str]:
    section, found = "", []
    for line in data.decode(errors="replace").splitlines():
        if line.strip().startswith("["):
            section = line.strip().strip("[]").strip()
        elif section in {"console_scripts", "gui_scripts"} and (match := _SCRIPT.match(line)):
            found.append(match[1])
    return found


def _listed(artifact: Artifact, facts: wheelfile.WheelFacts, programs: Sequence[str]) -> Iterator[Finding]:
    if programs:
        yield finding(artifact, "programs", f"it installs {_some(sorted(set(programs)))}", reason=LISTED)
    native = [PurePosixPath(member).name for member in facts.members if _NATIVE.search(member)]
    if native:
        yield finding(artifact, "native-code", f"{len(native)} libraries: {_some(native)}", reason=LISTED)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
