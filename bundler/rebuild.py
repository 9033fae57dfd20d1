"""The second signer builds the release again from the recipe, on a machine of their own, and sees every difference.

What this project makes (its wheel, requirements, descriptors, host files, `release.json`, the plan, the statements) is
made anew from the checkout and the recipe. What is downloaded is pinned by digest in recipe and locks, so the first
candidate's bytes serve as a download cache: a cached file is used only under the digest that the second machine's own
locks name. Then all files are compared by digest, both ways; of text and wheels the difference itself is shown.
"""

import difflib
import shutil
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bundler.build import Candidate
from bundler.cache import Cache
from bundler.errors import SigningError
from bundler.lent import lent, take_away
from bundler.measure import Measured, Progress, measure_tree, no_progress
from bundler.plan import ReleasePlan
from bundler.process import Progress as Told
from bundler.process import quiet
from bundler.provenance import BUILT_HERE
from bundler.recipe import Recipe
from bundler.wheelfile import UNREADABLE
from bundler.workfolder import WorkFolder
from media import layout
from media.canonical import array, loads, mapping
from media.digest import sha256_hex
from media.errors import MalformedError
from media.limits import PAYLOAD_BYTES

Build = Callable[[Recipe, WorkFolder], Sequence[Candidate]]

_PROVENANCE: Final = "The provenance"
_AGAIN: Final = ".sealift-again-"
_TEXT_BYTES: Final = 256 * 2**10
_SHOWN_LINES: Final = 40
_COMPARED: Final = ("provenance", "sbom", "scan")
_PLAN: Final = ("release", "serial", "created", "stale_after", "sites", "targets", "kinds", "rehearsal")
_OF_THE_MACHINE: Final = (("runDetails",), ("buildDefinition", "internalParameters"))
"""Of the provenance: when and where it was built, which differs by nature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """One thing that came out otherwise.

    Args:
        name: A path below `data/`, `plan: FIELD` or `statement: NAME`.
        first: Digest in the candidate; empty where it is not there.
        second: Digest of what was built now; empty likewise.
        shown: Lines that say how they differ.
        note: What the first build said about it: it may be known that another machine makes other bytes.
    """

    name: str
    first: str
    second: str
    shown: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """A candidate beside what the second machine made of the same recipe.

    Args:
        same: Files that are equal, byte by byte.
        own: Of these, how many this project made rather than downloaded.
        differing: Everything else.
        recipe_sha256: Of the recipe that was built from.
    """

    same: int
    own: int
    differing: tuple[Differing, ...]
    recipe_sha256: str

    def unnamed(self, accepted: Iterable[str]) -> tuple[str, ...]:
        """Return the differences that the signer has not named."""
        named = set(accepted)
        return tuple(each.name for each in self.differing if each.name not in named)

    def require_accepted(self, accepted: Iterable[str]) -> None:
        """Pass only when nothing differs but what the signer named.

        Raises:
            SigningError: Something else differs, or something was named that does not.
        """
        given = list(accepted)
        if missing := self.unnamed(given):
            raise SigningError(
                what=f"{missing[0]} came out otherwise when it was built again",
                why=f"{len(missing)} differences were not named",
                fix="find out why; to sign in spite of one, name it: --accept-difference NAME",
            )
        if stale := sorted(set(given) - {each.name for each in self.differing}):
            raise SigningError(
                what=f"{stale[0]} does not differ", why="it was named as a difference", fix="leave it out"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the fields for a program."""
        return {"format": 1, "same": self.same, "own": self.own, "differing": [asdict(each) for each in self.differing]}

    def to_text(self) -> str:
        """Return the lines for a person."""
        equal = f"{self.same} files are equal byte by byte, {self.own} of them made by this project"
        lines = [f"built again from recipe {self.recipe_sha256[:16]}: {equal}"]
        if not self.differing:
            return "\n".join([*lines, "  no difference: files, plan and statements are the same"])
        for each in self.differing:
            place = "not built now" if not each.second else "not in the candidate" if not each.first else "differs"
            lines.append(f"  {each.name}: {place}{f'; {each.note}' if each.note else ''}")
            lines += [f"      {line}" for line in each.shown]
        return "\n".join(lines)


def rebuild(
    work: WorkFolder,
    recipe: Recipe,
    build: Build,
    *,
    payload: Mapping[str, Measured],
    cache: Cache,
    progress: Progress = no_progress,
    told: Told = quiet,
) -> Rebuilt:
    """Build a candidate again and compare.

    Args:
        work: The first candidate.
        recipe: What the second signer reviewed.
        build: Makes candidates of a recipe below a folder.
        payload: The first candidate, measured a moment ago.
        cache: Of this machine; the candidate's bytes are put into it under their digests.
        progress: Called while what was built is measured.
        told: Told each step.

    Raises:
        SigningError: The recipe makes no release for these sites.
        SealiftError: The build refused.
    """
    plan = ReleasePlan.load(work.plan)
    wanted = [each for each in recipe.releases() if tuple(each.release.sites) == tuple(plan.sites)]
    if len(wanted) != 1:
        raise SigningError(
            what=f"this recipe makes no release for {', '.join(plan.sites)}",
            why=f"it makes {len(recipe.releases())} releases",
            fix="give the recipe of this release",
        )
    told(f"putting {len(payload)} files of the candidate into the cache, under their digests")
    _seed(work, payload, cache)
    above = work.root.absolute().parent
    take_away(above, _AGAIN)
    with lent(above, _AGAIN) as folder:
        (made,) = build(wanted[0], WorkFolder(root=folder / "w"))
        second = WorkFolder(root=made.work)
        return compare_rebuilt(
            work,
            second,
            first_payload=payload,
            second_payload=measure_tree(second.data, prefix=layout.DATA, progress=progress),
            recipe_sha256=recipe.sha256,
        )


def compare_rebuilt(
    first: WorkFolder,
    second: WorkFolder,
    *,
    first_payload: Mapping[str, Measured],
    second_payload: Mapping[str, Measured],
    recipe_sha256: str,
) -> Rebuilt:
    """Compare two candidates: files both ways, the plan field by field, the statements without time and machine.

    Raises:
        MediaError: A plan or a statement cannot be read.
    """
    provenance = _predicate(first, "provenance")
    downloaded = _downloaded(provenance)
    note = "the provenance says that another machine makes other bytes of it" if _notes_differing(provenance) else ""
    differing: list[Differing] = []
    same = own = 0
    for path in sorted(first_payload.keys() | second_payload.keys()):
        was, now = first_payload.get(path), second_payload.get(path)
        if was and now and was.sha256 == now.sha256:
            same += 1
            own += was.sha256 not in downloaded
            continue
        shown = _shown(first.candidate / path, second.candidate / path) if was and now else ()
        is_built_here = bool(note) and path.endswith((".whl", ".gguf"))
        differing.append(
            Differing(
                name=path,
                first=was.sha256 if was else "",
                second=now.sha256 if now else "",
                shown=shown,
                note=note if is_built_here else "",
            )
        )
    differing += _plans(ReleasePlan.load(first.plan), ReleasePlan.load(second.plan))
    differing += [found for name in _COMPARED if (found := _statement(first, second, name)) is not None]
    return Rebuilt(same=same, own=own, differing=tuple(differing), recipe_sha256=recipe_sha256)


def _seed(work: WorkFolder, payload: Mapping[str, Measured], cache: Cache) -> None:
    for path, found in payload.items():
        if cache.peek(found.sha256) is None:
            with cache.scratch() as folder:
                copied = Path(shutil.copyfile(work.candidate / path, folder / "copy"))
                cache.add(copied, sha256=found.sha256, name=Path(path).name)


def _plans(first: ReleasePlan, second: ReleasePlan) -> list[Differing]:
    found = []
    # A release that is signed again has another date than its recipe, and nothing else that differs.
    compared = [name for name in _PLAN if name != "stale_after" or not first.issue]
    for name in compared:
        was, now = getattr(first, name), getattr(second, name)
        if was != now:
            lines: tuple[str, ...] = (f"- {str(was)[:400]}", f"+ {str(now)[:400]}")
            if name == "kinds":
                lines = tuple(
                    f"{sign} {path}: {side[path]}"
                    for sign, side, other in (("-", was, now), ("+", now, was))
                    for path in sorted(side)
                    if other.get(path) != side[path]
                )[:_SHOWN_LINES]
            found.append(
                Differing(
                    name=f"plan: {name}",
                    first=sha256_hex(str(was).encode()),
                    second=sha256_hex(str(now).encode()),
                    shown=lines,
                )
            )
    return found


def _statement(first: WorkFolder, second: WorkFolder, name: str) -> Differing | None:
    was, now = _whole(first, name), _whole(second, name)
    if name == "provenance":
        was, now = _without_machine(was), _without_machine(now)
    if was == now:
        return None
    lines = _flat(was), _flat(now)
    shown = [
        line for line in difflib.unified_diff(*lines, "first", "second", lineterm="", n=0) if line[:3] not in _HEADS
    ]
    return Differing(
        name=f"statement: {name}",
        first=sha256_hex("\n".join(lines[0]).encode()) if was else "",
        second=sha256_hex("\n".join(lines[1]).encode()) if now else "",
        shown=tuple(_plain(line) for line in shown[:_SHOWN_LINES]),
    )


_HEADS: Final = ("---", "+++", "@@ ")


def _whole(work: WorkFolder, name: str) -> dict[str, Any]:
    try:
        untrusted = (work.attest / f"{name}.json").read_bytes()
    except FileNotFoundError:
        return {}
    return mapping(loads(untrusted, max_bytes=PAYLOAD_BYTES, allow_floats=True), f"The {name} statement")


def _predicate(work: WorkFolder, name: str) -> dict[str, Any]:
    found = _whole(work, name).get("predicate", {})
    return mapping(found, f"The {name} statement")


def _without_machine(statement: dict[str, Any]) -> dict[str, Any]:
    predicate = dict(_part(statement, "predicate"))
    for path in _OF_THE_MACHINE:
        at = predicate
        for step in path[:-1]:
            at[step] = dict(_part(at, step))
            at = at[step]
        at.pop(path[-1], None)
    return {**statement, "predicate": predicate}


def _downloaded(provenance: Mapping[str, Any]) -> set[str]:
    return {str(_part(each, "digest").get("sha256", "")) for each in _dependencies(provenance)}


def _notes_differing(provenance: Mapping[str, Any]) -> bool:
    notes = [str(_part(each, "annotations").get("note", "")) for each in _dependencies(provenance)]
    return any(note.startswith(BUILT_HERE) for note in notes)


def _dependencies(provenance: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed = array(_part(provenance, "buildDefinition").get("resolvedDependencies", []), _PROVENANCE)
    return [mapping(each, _PROVENANCE) for each in listed]


def _part(untrusted: Mapping[str, Any], name: str) -> dict[str, Any]:
    return mapping(untrusted.get(name, {}), _PROVENANCE)


def _flat(value: Any, prefix: str = "") -> list[str]:
    """Return one line for each leaf, so that a difference names its place."""
    if isinstance(value, dict):
        return [line for key in sorted(value) for line in _flat(value[key], f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list):
        return [line for number, each in enumerate(value) for line in _flat(each, f"{prefix}[{number}]")]
    return [f"{prefix} = {value}"]


def _shown(first: Path, second: Path) -> tuple[str, ...]:
    """Return how two files differ: members of archives, lines of text, or sizes."""
    if first.suffix == ".whl":
        return _members(first, second)
    if max(first.stat().st_size, second.stat().st_size) <= _TEXT_BYTES:
        try:
            was, now = (_text_lines(file) for file in (first, second))
        except (UnicodeDecodeError, MalformedError):
            return _sizes(first, second)
        lines = difflib.unified_diff(was, now, "first", "second", lineterm="", n=0)
        return tuple(_plain(line) for line in lines if line[:3] not in _HEADS)[:_SHOWN_LINES]
    return _sizes(first, second)


def _text_lines(file: Path) -> list[str]:
    """Return the lines of a text; of canonical JSON, which is one long line, one for each leaf."""
    if file.suffix == ".json":
        return _flat(loads(file.read_bytes(), allow_floats=True))
    return file.read_text("utf-8").splitlines()


def _members(first: Path, second: Path) -> tuple[str, ...]:
    try:
        was, now = (_listed(file) for file in (first, second))
    except UNREADABLE:  # that is the difference; what else differs is shown, too
        return ("one of them is no archive that reads", *_sizes(first, second))
    said = [f"- {name}" for name in sorted(was.keys() - now.keys())]
    said += [f"+ {name}" for name in sorted(now.keys() - was.keys())]
    said += [f"~ {name}" for name in sorted(was.keys() & now.keys()) if was[name] != now[name]]
    return tuple(_plain(line) for line in said[:_SHOWN_LINES]) or ("the same members, packed otherwise",)


def _listed(file: Path) -> dict[str, tuple[int, int]]:
    with zipfile.ZipFile(file) as archive:
        return {each.filename: (each.CRC, each.file_size) for each in archive.infolist()}


def _sizes(first: Path, second: Path) -> tuple[str, ...]:
    return (f"{first.stat().st_size:,} -> {second.stat().st_size:,} bytes",)


def _plain(line: str) -> str:
    """Return the line without what would move a terminal's cursor: the texts are a candidate's."""
    return "".join(character if character.isprintable() else "\ufffd" for character in line)[:300]
