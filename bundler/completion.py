"""Puts an update on the release below it, as the appliance does when it installs one, so that it can be rehearsed.

An update alone cannot be installed on a clean system. What is rehearsed is the whole that a site will have: the
candidate of the release below with what this one brings in its place. The rules are those of FMT-69.
"""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bundler.errors import RehearsalError
from bundler.measure import measure_tree
from bundler.plan import ReleasePlan
from bundler.workfolder import WorkFolder
from media import layout
from media.canonical import dumps, loads, mapping
from media.digest import payload_digest

_GROUPS: Final = ("host/ansible", "host/systemd", "debs")
_NAME: Final = re.compile(r"[-_.]+")
_ENGINE: Final = "engine-"


def needs_base(work: WorkFolder) -> bool:
    """Tell whether a candidate cannot be installed without a release below it."""
    facts = _facts(work)
    return facts.get("kind") == "security-update" or "base" in facts


def completed(work: WorkFolder, base: WorkFolder, folder: Path) -> WorkFolder:
    """Return a full candidate in `folder`: `base` with what `work` brings; large files are links.

    Raises:
        RehearsalError: `base` is not the release that `work` changes, or the two do not fit.
        SigningError: One of them is no candidate.
    """
    plan, below = ReleasePlan.load(work.plan), ReleasePlan.load(base.plan)
    facts, old = _facts(work), _facts(base)
    named = facts.get("base", below.serial)
    if needs_base(base) or named != below.serial or below.serial >= plan.serial:
        raise RehearsalError(
            what=f"{base.root.name} is not the release that this one changes",
            why=f"it is serial {below.serial}; this one is {plan.serial} and names {named}",
            fix="give --base the work folder of that release, of one that brings everything",
        )
    whole = WorkFolder(root=folder)
    shutil.copytree(base.data, whole.data, copy_function=_link)
    for group in _GROUPS:
        if (work.data / group).is_dir():
            shutil.rmtree(whole.data / group, ignore_errors=True)
    for path in sorted(path for path in work.data.rglob("*") if path.is_file()):
        place = whole.data / path.relative_to(work.data)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        _link(str(path), str(place))
    environments = _environments(work, base, whole, facts, old)
    has_debs = (work.data / "debs").is_dir()
    merged = {
        **old,
        **{name: facts[name] for name in ("release", "serial", "created")},
        "environments": environments,
        "debs": facts["debs"] if has_debs else old["debs"],
    }
    place = whole.candidate / layout.RELEASE_FACTS
    place.unlink()
    place.write_bytes(dumps(merged))
    measured = measure_tree(whole.data, prefix=layout.DATA)
    kinds = {**below.kinds, **plan.kinds}
    digest = payload_digest((name, each.length, each.sha256) for name, each in measured.items())
    full = replace(plan, kinds={name: kinds[name] for name in measured}, payload_digest=digest)
    whole.plan.write_bytes(full.to_bytes())
    return whole


def _environments(
    work: WorkFolder, base: WorkFolder, whole: WorkFolder, facts: Mapping[str, Any], old: Mapping[str, Any]
) -> dict[str, str]:
    before, own = dict(old["environments"]), dict(facts["environments"])
    if facts.get("kind") != "security-update":
        return {name: path for name, path in before.items() if name.startswith(_ENGINE)} | own
    texts = {name: _lines((work.candidate / str(path)).read_text()) for name, path in own.items()}
    unused = {package for fresh in texts.values() for package in fresh}
    for name, path in own.items():
        lines, fresh = _lines((base.candidate / str(before[name])).read_text()), texts[name]
        unused -= lines.keys()
        lines |= {package: line for package, line in fresh.items() if package in lines}
        place = whole.candidate / str(path)
        place.unlink()
        place.write_text("".join(f"{lines[package]}\n" for package in sorted(lines)))
    if unused:
        raise RehearsalError(
            what=f"the update replaces {min(unused)}, which the release below does not have",
            why="every site refuses such an update: it changes packages and brings no new ones",
            fix="leave it out of update.wheels; where it is needed, make a release of the kind server or full",
        )
    return before


def _lines(requirements: str) -> dict[str, str]:
    lines = [line for line in requirements.splitlines() if line and not line.startswith("#")]
    return {_NAME.sub("-", line.partition("==")[0]).lower(): line for line in lines}


def _facts(work: WorkFolder) -> dict[str, Any]:
    ReleasePlan.load(work.plan)
    return mapping(loads((work.candidate / layout.RELEASE_FACTS).read_bytes()), "release.json")


def _link(source: str, destination: str) -> None:
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)
