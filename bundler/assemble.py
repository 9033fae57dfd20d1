"""Puts the candidate together: `candidate/data/` and `candidate/plan.json`. Deterministic: no clock, no network.

Two builds of the same artifacts give the same bytes under the same names. Large files are hard links to the cache, and
the candidates of several sites share them; the plan holds the payload digest, so a file that changes afterwards is
found before anyone signs.
"""

import fcntl
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bundler.artifact import Artifact
from bundler.digests import copy_of
from bundler.errors import BuildError, NotEmptyError
from bundler.needs import NOTHING, Needs
from bundler.plan import ReleasePlan
from bundler.recipe import Recipe
from bundler.sources.evals import target_of
from bundler.sources.modelfiles import descriptor_target
from bundler.workfolder import WorkFolder
from media.canonical import dumps
from media.clock import to_text
from media.digest import payload_digest
from media.layout import RELEASE_FACTS, require_distinct, safe_path

_LINK_BYTES: Final = 2**20
_FICLONE: Final = 0x40049409  # linux/fs.h: share the blocks of another file
PRODUCT = "sealift"


def release_facts(
    recipe: Recipe,
    *,
    environments: dict[str, str],
    debs: Sequence[str],
    references: Mapping[str, Sequence[Mapping[str, str]]] | None = None,
    pins: Mapping[str, Mapping[str, str]] | None = None,
) -> Artifact:
    """Return `data/release.json`: what the appliance reads first when it installs.

    Args:
        recipe: The recipe.
        environments: The requirements file of each environment, by its name.
        debs: Paths of the Debian packages.
        references: What is said of each model's reference outputs, by the model's name.
        pins: Digests that must come out again at the site, by the model's name.
    """
    value: dict[str, Any] = {
        "format": 1,
        "product": PRODUCT,
        "release": recipe.release.name,
        "serial": recipe.release.serial,
        "created": to_text(recipe.release.created),
        "models": [
            {
                "name": model.name,
                "descriptor": descriptor_target(model),
                "evals": [target_of(path) for path in model.evals],
                "references": [dict(each) for each in (references or {}).get(model.name, ())],
                **({"pins": dict(found)} if (found := (pins or {}).get(model.name)) else {}),
                **({"judges": ["similarity"]} if model.judges_similarity else {}),
            }
            for model in recipe.models
        ],
        "environments": environments,
        "debs": sorted(debs),
    }
    if recipe.kind != "full":
        value["kind"] = recipe.kind
    if recipe.release.base is not None:
        value["base"] = recipe.release.base
    return Artifact.of_bytes(dumps(value), target=RELEASE_FACTS, kind="release")


def plan_of(recipe: Recipe, artifacts: Sequence[Artifact], needs: Needs = NOTHING) -> ReleasePlan:
    """Return what the build says about a candidate."""
    return ReleasePlan(
        release=recipe.release.name,
        serial=recipe.release.serial,
        created=to_text(recipe.release.created),
        stale_after=to_text(recipe.release.stale_after),
        sites=recipe.release.sites,
        targets=tuple(machine.signed(cpu_flags=needs.cpu_flags, driver=needs.driver) for machine in recipe.machines),
        kinds={artifact.target: artifact.kind for artifact in artifacts},
        payload_digest=payload_digest((artifact.target, artifact.length, artifact.sha256) for artifact in artifacts),
        rehearsal=recipe.demanded_rehearsal,
    )


def require_free(work: WorkFolder) -> None:
    """Pass when a candidate may be written: the folder is empty, or holds a candidate that nobody has signed.

    Raises:
        NotEmptyError: It holds something else.
    """
    if not work.root.exists():
        return
    signed = [path for path in (work.signatures, work.seals, work.metadata) if path.exists()]
    if signed or (work.attest.is_dir() and any(work.attest.glob("*.dsse.json"))):
        raise NotEmptyError(
            what=f"the work folder {work.root.name} holds a release that people have begun to sign",
            why="a new build would make their signatures worthless",
            fix="build into a new folder",
        )
    if not work.candidate.exists() and any(work.root.iterdir()):
        raise NotEmptyError(
            what=f"the work folder {work.root.name} holds other files", why="", fix="build into a new folder"
        )


def assemble(
    recipe: Recipe,
    artifacts: Sequence[Artifact],
    work: WorkFolder,
    *,
    needs: Needs = NOTHING,
    placed: dict[str, Path] | None = None,
) -> ReleasePlan:
    """Write the candidate, replacing an unsigned one.

    Args:
        recipe: What the release carries.
        artifacts: Its files, merged.
        work: Where it is written.
        needs: What its wheels ask of every machine that it is for.
        placed: Large files of other candidates of this build by digest, which share their bytes; added to.

    Raises:
        NotEmptyError: The work folder holds other things.
        UnsafePathError: A name may not travel, or two names are one on some file system.
        BuildError: Two sources bring different files under one name, or the disk is full.
    """
    require_free(work)
    names = [artifact.target for artifact in artifacts]
    for name in names:
        safe_path(name)
    require_distinct(names)
    plan = plan_of(recipe, artifacts, needs)
    fresh = work.root / "candidate.partial"
    shared: dict[str, Path] = {} if placed is None else placed
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        for artifact in artifacts:
            _place(artifact, fresh / artifact.target, shared)
        (fresh / work.plan.name).write_bytes(plan.to_bytes())
        shutil.rmtree(work.attest, ignore_errors=True)
        shutil.rmtree(work.candidate, ignore_errors=True)
        fresh.rename(work.candidate)
        shared.update((each.sha256, work.candidate / each.target) for each in artifacts if each.length >= _LINK_BYTES)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise BuildError(
            what="the candidate could not be written",
            why=error.strerror or "",
            fix="free space or choose another folder",
        ) from error
    return plan


def merged(artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
    """Return the artifacts by name, each once; the same bytes under one name from two sources are one file.

    Raises:
        BuildError: Two sources bring different files under one name.
    """
    found: dict[str, Artifact] = {}
    for artifact in artifacts:
        known = found.setdefault(artifact.target, artifact)
        if known.sha256 != artifact.sha256:
            raise BuildError(
                what=f"two sources bring {artifact.target}",
                why=f"sha256 {known.sha256[:12]} and {artifact.sha256[:12]}",
                fix="lock one version of it",
            )
    return tuple(found[name] for name in sorted(found))


def _place(artifact: Artifact, destination: Path, placed: Mapping[str, Path]) -> None:
    """Lay a file down: large ones by a link to bytes that lie on this file system already, else by one copy."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    if artifact.file is None:
        destination.write_bytes(artifact.content)
        return
    sources = (artifact.file, placed.get(artifact.sha256), copy_of(artifact.sha256))
    for source in sources if artifact.length >= _LINK_BYTES else ():
        if source is not None and _linked(source, destination):
            return
    if not _cloned(artifact.file, destination):
        shutil.copyfile(artifact.file, destination)


def _linked(source: Path, destination: Path) -> bool:
    try:
        os.link(source, destination)
    except OSError:  # another file system, one without links, or a file of somebody else
        return False
    return True


def _cloned(source: Path, destination: Path) -> bool:
    """Share the bytes of two files where the file system can; what cannot leaves nothing behind."""
    try:
        with source.open("rb") as read, destination.open("xb") as written:
            fcntl.ioctl(written, _FICLONE, read.fileno())
    except OSError:
        destination.unlink(missing_ok=True)
        return False
    return True
