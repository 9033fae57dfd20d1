"""A candidate, or any folder of model files, as the scan wants it: artifacts, measured now and believed in nothing."""

import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from bundler import wheelfile
from bundler.artifact import Artifact, Component
from bundler.errors import ScanError
from bundler.plan import ReleasePlan
from bundler.workfolder import WorkFolder
from media.canonical import loads, mapping, text
from media.errors import MediaError
from media.layout import safe_path

_KINDS = {".whl": "wheel", ".gguf": "weights", ".safetensors": "weights", ".deb": "deb", ".jsonl": "eval"}
_MAX_FILES = 100_000


def of_candidate(work: WorkFolder) -> tuple[Artifact, ...]:
    """Return every file of a candidate under the kind that its plan gives it.

    Raises:
        SigningError: There is no candidate.
        ScanError: A file is missing, is no regular file, or is there without being planned.
        MediaError: The plan does not read, or names what may not be a name.
    """
    plan = ReleasePlan.load(work.plan)
    found = {str(path.relative_to(work.candidate)): path for path in _files(work.data)}
    if extra := sorted(found.keys() - plan.kinds.keys()):
        raise ScanError(what=f"{extra[0][:200]} is not in the plan", why="it would not be scanned", fix="build again")
    licences = _licences(work, plan.kinds)
    return tuple(
        _artifact(found, str(safe_path(name)), kind, licences.get(str(PurePosixPath(name).parent), ""))
        for name, kind in sorted(plan.kinds.items())
    )


def of_folder(path: Path) -> tuple[Artifact, ...]:
    """Return every file of a folder, or one file, under the kind that its name suggests.

    What no other kind claims is judged as a file that lies beside weights.

    Raises:
        ScanError: There is nothing, or something that is no regular file.
    """
    base = path if path.is_dir() else path.parent
    files = _files(path) if path.is_dir() else [path]
    if not path.exists() and not path.is_symlink():
        raise ScanError(what=f"{path.name} is not there", why="it names no file and no folder", fix="give another path")
    if not files:
        raise ScanError(what=f"{path.name or path} cannot be scanned", why="there is no file in it", fix="give another")
    if strange := [file.relative_to(base).as_posix()[:200] for file in files if not _is_regular(file)]:
        raise ScanError(
            what=f"{strange[0]} is no regular file",
            why=f"links, pipes and devices never travel; {len(strange)} here",
            fix="take it away, or put the file that it stands for in its place",
        )
    return tuple(
        Artifact.of_file(
            file,
            target=file.relative_to(base).as_posix(),
            kind=_KINDS.get(file.suffix.lower(), "model"),
            component=Component(name=file.name),
        )
        for file in files
    )


def _artifact(found: Mapping[str, Path], name: str, kind: str, license_name: str) -> Artifact:
    if name not in found or not _is_regular(found[name]):
        raise ScanError(what=f"{name} is not there, or is no regular file", why="the plan names it", fix="build again")
    path = found[name]
    if kind == "wheel":
        license_name = wheelfile.read(path).license
    component = Component(name=PurePosixPath(name).name, license=license_name)
    return Artifact.of_file(path, target=name, kind=kind, component=component)


def _licences(work: WorkFolder, kinds: Mapping[str, str]) -> dict[str, str]:
    """Return what each model's descriptor states, by the model's folder."""
    found: dict[str, str] = {}
    for name in kinds:
        path = PurePosixPath(safe_path(name))
        if path.name == "descriptor.json":
            with suppress(OSError, MediaError):
                descriptor = mapping(loads((work.candidate / name).read_bytes()), name)
                found[str(path.parent)] = text(descriptor.get("license"), "license")
    return found


def _files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_dir():
            found.append(path)
        if len(found) > _MAX_FILES:
            raise ScanError(what=f"{folder.name} holds too many files", why=f"the limit is {_MAX_FILES}", fix="")
    return found


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
