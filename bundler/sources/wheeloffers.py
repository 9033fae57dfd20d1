"""Why no wheel came: what the index offered for a locked package, and which part of its tag does not fit the target.

pip knows how this machine reaches its index, so pip downloads; what it looked at and passed over is read from its own
lines. Only file names are kept of them, never addresses. A yanked file is refused even though a lock pins it.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion

from bundler.errors import SourceError
from bundler.target import WheelTarget
from bundler.targettags import target_tags

_SKIPPED: Final = re.compile(r"\b(?:Skipping link|Link requires a different Python)\b.*", re.IGNORECASE)
_FOUND: Final = re.compile(r"\bFound link\b.*", re.IGNORECASE)
_FILE: Final = re.compile(r"/([^/\s?#]+\.(?:whl|tar\.gz|zip))(?=[\s?#]|$)")
_NO_MATCH: Final = re.compile(r"No matching distribution found for ([A-Za-z0-9._-]+)==(\S+)")
_YANKED: Final = re.compile(r"is a yanked version: '?([A-Za-z0-9._-]+)'? candidate \(version (\S+)")
_REASON: Final = re.compile(r"Reason for being yanked: (.*)")
_SHOWN: Final = 6
_PLATFORM: Final = re.compile(r"(?:manylinux|musllinux)_(\d+)_(\d+)_(\w+)")


def require_none_yanked(lines: Iterable[str]) -> None:
    """Pass when pip warned of no yanked file.

    Raises:
        SourceError: It did; `why` is the publisher's reason.
    """
    text = "\n".join(lines)
    found = _YANKED.search(text)
    if found is None:
        return
    reason = _REASON.search(text)
    raise SourceError(
        what=f"{found[1]} {found[2]} was withdrawn by its publisher (yanked)",
        why=ascii(reason[1].strip())[1:-1][:300] if reason else "no reason is given",
        fix="lock another version of it",
    )


def explained(lines: Iterable[str], target: WheelTarget) -> SourceError | None:
    """Return an error that says what was offered in the place of the missing wheel; None when pip says no name."""
    told = list(lines)
    missing = next((match for line in reversed(told) if (match := _NO_MATCH.search(line))), None)
    if missing is None:
        return None
    name, version = canonicalize_name(missing[1]), missing[2]
    found = {file for line in told if (file := _file_of(line)) and _is_of(file, name, version)}
    offered = sorted(found, key=lambda file: (_distance(file, target), file))
    what = f"{name} {version} has no wheel for Python {target.python} on {target.platform} with glibc {target.glibc}"
    if not offered:
        return SourceError(
            what=what, why="the package index has no file of this version", fix="lock a version that is published"
        )
    listed = "; ".join(f"{file} {unfit(file, target)}" for file in offered[:_SHOWN])
    more = f"; {len(offered) - _SHOWN} more" if len(offered) > _SHOWN else ""
    return SourceError(
        what=what,
        why=f"offered: {listed}{more}",
        fix="lock a version with a wheel for the target, or correct the target by its probe",
    )


def unfit(file_name: str, target: WheelTarget) -> str:
    """Say in few words why a file is not for the target: the first part of its tag that does not fit."""
    try:
        tags = parse_wheel_filename(file_name)[3]
    except (InvalidWheelFilename, InvalidVersion):
        return "is a source archive, which runs code when it is installed"
    accepted = target_tags(target)
    if tags & frozenset(accepted):
        return "fits, but is not the locked file"
    best = [tag for tag in tags if tag.interpreter in {each.interpreter for each in accepted}]
    if not best:
        return f"is for {', '.join(sorted({tag.interpreter for tag in tags}))}"
    same_platform = [tag for tag in best if tag.platform in {each.platform for each in accepted}]
    if same_platform:
        return f"is for the ABI {', '.join(sorted({tag.abi for tag in same_platform}))}"
    return _platform(sorted({tag.platform for tag in best}), target)


def _distance(file_name: str, target: WheelTarget) -> int:
    """Return how far a file is from fitting, so that people read the nearest first."""
    reason = unfit(file_name, target)
    if reason.startswith(("fits", "needs")):
        return 0
    return 1 if target.platform.removeprefix("linux_") in file_name or "source" in reason else 2


def _platform(platforms: list[str], target: WheelTarget) -> str:
    machine = target.platform.removeprefix("linux_")
    ours = [match for name in platforms if (match := _PLATFORM.fullmatch(name)) and match[3] == machine]
    if any(match[0].startswith("musl") for match in ours) and all(match[0].startswith("musl") for match in ours):
        return "is for musl"
    levels = [(int(match[1]), int(match[2])) for match in ours if match[0].startswith("many")]
    if levels:
        least = min(levels)
        return f"needs glibc {least[0]}.{least[1]}"
    return f"is for {', '.join(platforms)[:120]}"


def _file_of(line: str) -> str:
    if not (_SKIPPED.search(line) or _FOUND.search(line)):
        return ""
    found = _FILE.search(line)
    return unquote(found[1])[:200] if found else ""


def _is_of(file_name: str, name: str, version: str) -> bool:
    try:
        if file_name.endswith(".whl"):
            found, its = parse_wheel_filename(file_name)[:2]
        else:
            found, its = parse_sdist_filename(file_name)
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return False
    return found == name and str(its) == version
