"""What one release changes against another: files, packages, licences, what packages run as root, and models.

`sign --previous` shows it to the person who is about to sign, `diff` to anybody. What cannot be seen from what lies at
hand (a file on another volume, metadata alone) is said in a note, never passed over.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from bundler import debfile, wheelfile
from bundler.contents import Contents, Entry, Stated
from bundler.errors import ScanError
from bundler.modelchange import Field, ModelChange, model_changes

_ROOT_RULES: Final = ("maintainer-script", "set-user-id")
_NONE: Final = "(none)"
_UNSTATED: Final = "(not stated)"
Packages = dict[tuple[str, str], dict[str, str]]
"""By kind and name: the path of each file by its version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """One payload file; a length is None on the side where the file is not."""

    path: str
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageChange:
    """A wheel or Debian package by name, with its versions; the same ones mean other bytes under one version."""

    kind: str
    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RootChange:
    """What a Debian package newly does as root, and what it no longer does."""

    package: str
    added: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two releases side by side."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    added: tuple[FileChange, ...]
    removed: tuple[FileChange, ...]
    changed: tuple[FileChange, ...]
    same: int
    new_bytes: int
    packages: tuple[PackageChange, ...]
    licences: tuple[Field, ...]
    as_root: tuple[RootChange, ...]
    models: tuple[ModelChange, ...]
    notes: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether no payload file came, went or changed."""
        return not (self.added or self.removed or self.changed)

    def to_json(self) -> dict[str, Any]:
        """Return the fields a program reads."""
        return {"format": 1, "nothing_changed": self.is_empty, **asdict(self)}

    def to_text(self, *, limit: int | None = None) -> str:
        """Return the lines a person reads; with a limit, at most so many files of each kind."""
        return "\n".join(map(_plain, self._lines(limit)))

    def _lines(self, limit: int | None) -> Iterator[str]:
        yield f"{self.before['release']} -> {self.after['release']}"
        for key in self.after:
            if self.before.get(key) != self.after[key]:
                yield f"  {key.replace('_', ' ')}: {_shown(self.before.get(key))} -> {_shown(self.after[key])}"
        if self.is_empty:
            yield f"  nothing changed: all {self.same} payload files are the same, byte by byte"
            return
        yield f"  {self.same} files as before, {self.new_bytes:,} bytes are new"
        for sign, files in (("+", self.added), ("-", self.removed), ("~", self.changed)):
            yield from (f"  {sign} {file.path}  {_sizes(file)}" for file in files[:limit])
            if limit is not None and len(files) > limit:
                yield f"  {sign} and {len(files) - limit} more"
        for package in self.packages:
            now, then = ", ".join(package.after) or _NONE, ", ".join(package.before) or _NONE
            yield f"  {package.kind} {package.name}: " + (
                f"{now}, the same version with other bytes" if now == then else f"{then} -> {now}"
            )
        yield from (f"  licence of {each.name}: {each.before} -> {each.after}" for each in self.licences)
        for root in self.as_root:
            yield from (f"  as root, {root.package}: + {each}" for each in root.added)
            yield from (f"  as root, {root.package}: - {each}" for each in root.removed)
        for model in self.models:
            yield from model.to_text()
        yield from (f"  not compared: {note}" for note in self.notes)


def compare(before: Contents, after: Contents) -> Difference:
    """Compare two releases.

    Raises:
        MediaError: A statement of one of them cannot be read.
    """
    old, new = before.files, after.files
    known = {entry.sha256 for entry in old.values()}
    both = sorted(old.keys() & new.keys())
    changed = [path for path in both if old[path].sha256 != new[path].sha256]
    stated_before, stated_after = before.stated(), after.stated()
    ours, theirs = _packages(old, stated_before), _packages(new, stated_after)
    notes: list[str] = []
    if not stated_before or not stated_after:
        side = before if not stated_before else after
        notes.append(f"licences: {side.facts['release']} has no bill of materials here that names its files")
    return Difference(
        before=before.facts,
        after=after.facts,
        added=tuple(_change(path, old, new) for path in sorted(new.keys() - old.keys())),
        removed=tuple(_change(path, old, new) for path in sorted(old.keys() - new.keys())),
        changed=tuple(_change(path, old, new) for path in changed),
        same=len(both) - len(changed),
        new_bytes=sum(entry.length for entry in new.values() if entry.sha256 not in known),
        packages=tuple(_package_changes(ours, theirs, old, new)),
        licences=tuple(_licences(stated_before, stated_after)) if not notes else (),
        as_root=tuple(_root_changes(before, after, ours, theirs, notes)),
        models=model_changes(before, after),
        notes=tuple(notes),
    )


def _change(path: str, old: Mapping[str, Entry], new: Mapping[str, Entry]) -> FileChange:
    return FileChange(
        path=path,
        before=old[path].length if path in old else None,
        after=new[path].length if path in new else None,
    )


def _packages(files: Mapping[str, Entry], stated: Mapping[str, Stated]) -> Packages:
    found: Packages = {}
    for path in sorted(files):
        kind, name, version = _package(path, stated.get(path))
        if name:
            found.setdefault((kind, name), {})[version] = path
    return found


def _package(path: str, stated: Stated | None) -> tuple[str, str, str]:
    """Return kind, name and version of a package, from its file name; empty texts for any other file."""
    file = PurePosixPath(path).name
    if file.endswith(".whl"):
        try:
            named = wheelfile.parse_name(file)
        except ScanError:
            return "wheel", file, "?"
        return "wheel", named.name, named.version
    if file.endswith(".deb"):
        if stated is not None and stated.version:
            return "deb", stated.name, stated.version
        name, _, rest = file.removesuffix(".deb").partition("_")
        return "deb", name, rest.rpartition("_")[0] or "?"
    return "", "", ""


def _package_changes(
    ours: Packages, theirs: Packages, old: Mapping[str, Entry], new: Mapping[str, Entry]
) -> Iterator[PackageChange]:
    for kind, name in sorted(ours.keys() | theirs.keys()):
        before, after = ours.get((kind, name), {}), theirs.get((kind, name), {})
        ours_now = {(version, old[path].sha256) for version, path in before.items()}
        if ours_now != {(version, new[path].sha256) for version, path in after.items()}:
            yield PackageChange(kind=kind, name=name, before=tuple(sorted(before)), after=tuple(sorted(after)))


def _licences(before: Mapping[str, Stated], after: Mapping[str, Stated]) -> Iterator[Field]:
    ours, theirs = _by_name(before), _by_name(after)
    for name in sorted(ours.keys() | theirs.keys()):
        then, now = ours.get(name, ""), theirs.get(name, "")
        if then != now:
            yield Field(name=name, before=then or _UNSTATED, after=now or _UNSTATED)


def _by_name(stated: Mapping[str, Stated]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for each in stated.values():
        if each.license:
            found.setdefault(each.name, set()).add(each.license)
    return {name: " and ".join(sorted(licences)) for name, licences in found.items()}


def _root_changes(
    before: Contents, after: Contents, ours: Packages, theirs: Packages, notes: list[str]
) -> Iterator[RootChange]:
    for kind, name in sorted(ours.keys() | theirs.keys()):
        old_paths, new_paths = set(ours.get((kind, name), {}).values()), set(theirs.get((kind, name), {}).values())
        if kind != "deb" or {before.files[path].sha256 for path in old_paths} == {
            after.files[path].sha256 for path in new_paths
        }:
            continue
        old = [_as_root(before, path, notes) for path in sorted(old_paths)]
        new = [_as_root(after, path, notes) for path in sorted(new_paths)]
        if None in old or None in new:
            continue
        then, now = (set().union(*(each for each in side if each is not None)) for side in (old, new))
        if then != now:
            yield RootChange(package=name, added=tuple(sorted(now - then)), removed=tuple(sorted(then - now)))


def _as_root(side: Contents, path: str, notes: list[str]) -> set[str] | None:
    """Return what a package does as root, from its own bytes or else from the scan; None when neither tells."""
    place = side.whole(path)
    if place is not None:
        try:
            return {f"{rule}: {detail}" for rule, detail in debfile.listed(place)}
        except ScanError:
            notes.append(f"{path} of {side.facts['release']} is not a readable package")
            return None
    scan = side.predicate("scan")
    if not scan:
        notes.append(f"what {path} of {side.facts['release']} runs as root: it does not lie here, and no scan does")
        return None
    return {
        f"{found.get('rule')}: {found.get('detail')}"
        for found in scan.get("findings", ())
        if found.get("path") == path and found.get("rule") in _ROOT_RULES
    }


def _sizes(file: FileChange) -> str:
    known = [size for size in (file.before, file.after) if size is not None]
    if len(known) == 2 and file.before != file.after:
        return f"{file.before:,} -> {file.after:,} bytes"
    return f"{known[-1]:,} bytes"


def _plain(line: str) -> str:
    """Return the line without what would move a terminal's cursor: texts of models and statements are not ours."""
    return "".join(character if character.isprintable() else "\ufffd" for character in line)


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or _NONE)
