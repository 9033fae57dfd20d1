"""The build: recipe, sources, scan, candidates and statements; the connected side up to the first signature.

Nothing is written to a work folder before the scan has passed for every site. What sites share is read, hashed and
stored once.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from bundler import assemble, measure, provenance, sbom, statement
from bundler.artifact import Artifact, Material
from bundler.cache import Cache
from bundler.digests import Digests, remembering
from bundler.download import Line
from bundler.errors import RecipeError, ScanError
from bundler.gather import Workshop, gather
from bundler.lent import lent, take_away
from bundler.needs import Needs
from bundler.process import Progress, quiet
from bundler.recipe import Recipe
from bundler.scan import Antivirus, Loading, ScanReport, judge, scan
from bundler.scanning.proposed import proposals
from bundler.sources import wheels
from bundler.sources.server import Checkout
from bundler.toolchain import ready
from bundler.workfolder import WorkFolder, put
from media.clock import Clock

__all__ = ["Candidate", "Workshop", "build", "build_in", "build_sites", "gather"]

_SPOOL: Final = ".sealift-build-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A release that nobody has signed yet."""

    release: str
    serial: int
    kind: str
    sites: tuple[str, ...]
    work: Path
    payload_digest: str
    files: int
    length: int
    findings: int
    unchanged: tuple[str, ...]
    seconds: float


def build(
    recipe: Recipe,
    work: WorkFolder,
    *,
    cache: Cache,
    clock: Clock,
    progress: Progress = quiet,
    counted: measure.Progress = measure.no_progress,
    checkout: Path | None = None,
    refused: Callable[[str], None] | None = None,
) -> tuple[Candidate, ...]:
    """Make the candidate of a recipe in a work folder, or of each of its sites in a folder below it.

    Args:
        recipe: What the release carries.
        work: An empty folder, or one with an unsigned candidate, which is replaced.
        cache: Downloads and built wheels.
        clock: For the build times in the provenance statement.
        progress: Told each step.
        counted: Told the bytes of each download and of each large file that is hashed.
        checkout: The source tree of Sealift, where it is not the one this program runs from.
        refused: Told allowances to look at, as TOML, before the scan's error is raised.

    Raises:
        SealiftError: A source, the scan or a work folder refused; nothing half-made is left.
    """
    for _, folder in folders_of(recipe, work.root):
        assemble.require_free(folder)
    tree = Checkout.find(checkout)
    toolchain = ready(cache, tree.lock("build"), progress=progress)
    shop = Workshop(
        checkout=tree,
        cache=cache,
        toolchain=toolchain,
        fetch=wheels.pip_fetch(toolchain),
        clock=clock,
        progress=progress,
        line=Line(progress=counted),
        proposes=refused,
    )
    return build_sites(shop, recipe, work.root)


def build_in(shop: Workshop, recipe: Recipe, work: WorkFolder) -> Candidate:
    """Make the one candidate of a recipe with the tools at hand; see `build`.

    Raises:
        RecipeError: It makes one for each of several sites.
        SealiftError: As `build`.
    """
    if recipe.site:
        raise RecipeError(what="site: each gets a release of its own", why="", fix="build them into one folder above")
    return build_sites(shop, recipe, work.root)[0]


def build_sites(shop: Workshop, recipe: Recipe, root: Path) -> tuple[Candidate, ...]:
    """Make the candidate of each release of a recipe with the tools at hand; see `build`.

    Raises:
        SealiftError: As `build`.
    """
    wanted = folders_of(recipe, root)
    for _, work in wanted:
        assemble.require_free(work)
    if left := shop.cache.tidy(now=shop.clock.now()) + take_away(_above(root), _SPOOL):
        shop.progress(f"took away what builds that were killed had left: {left} folder{'' if left == 1 else 's'}")
    with _spool_beside(root) as spool, remembering(Digests(told=shop.line.progress, spool=spool)):
        parts = [_gathered(shop, single, work) for single, work in wanted]
        placed: dict[str, Path] = {}
        return tuple(_written(shop, part, placed) for part in parts)


def folders_of(recipe: Recipe, root: Path) -> tuple[tuple[Recipe, WorkFolder], ...]:
    """Return the recipe of each release with the work folder it is made in: `root`, or with sites one below it."""
    return tuple(
        (single, WorkFolder(root=root / single.release.sites[0] if recipe.site else root))
        for single in recipe.releases()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One release, gathered and scanned."""

    recipe: Recipe
    work: WorkFolder
    artifacts: tuple[Artifact, ...]
    materials: Sequence[Material]
    needs: Needs
    report: ScanReport
    started: datetime
    ticks: float


def _gathered(shop: Workshop, recipe: Recipe, work: WorkFolder) -> _Part:
    started, ticks = shop.clock.now(), shop.clock.monotonic()
    if recipe.site:
        shop.progress(f"for {recipe.release.sites[0]}:")
    found = gather(shop, recipe)
    artifacts = assemble.merged(found.artifacts)
    wanted = recipe.scan.antivirus
    try:
        report = scan(
            artifacts,
            allowed=recipe.scan.allowed,
            accepted=recipe.accept_licences,
            clamav=None if wanted is None else Antivirus(max_age_days=wanted.max_age_days, clock=shop.clock),
            loading=Loading(python=recipe.target.python, cache=shop.cache, clock=shop.clock),
            progress=shop.progress,
        )
    except ScanError:
        if shop.proposes is not None:
            whole = judge(artifacts, allowed=recipe.scan.allowed, accepted=recipe.accept_licences)
            if whole.refused:
                shop.proposes(proposals(whole.refused, artifacts))
        raise
    return _Part(
        recipe=recipe,
        work=work,
        artifacts=artifacts,
        materials=found.materials,
        needs=found.needs,
        report=report,
        started=started,
        ticks=ticks,
    )


def _written(shop: Workshop, part: _Part, placed: dict[str, Path]) -> Candidate:
    recipe, artifacts = part.recipe, part.artifacts
    shop.progress(f"writing the candidate for {', '.join(recipe.release.sites)}: {len(artifacts)} files")
    plan = assemble.assemble(recipe, artifacts, part.work, needs=part.needs, placed=placed)
    made = provenance.predicate(recipe, part.materials, started=part.started, finished=shop.clock.now())
    _leave_statements(recipe, artifacts, part.report, made, plan.payload_digest, part.work)
    return Candidate(
        release=plan.release,
        serial=plan.serial,
        kind=recipe.kind,
        sites=recipe.release.sites,
        work=part.work.root,
        payload_digest=plan.payload_digest,
        files=len(artifacts),
        length=sum(artifact.length for artifact in artifacts),
        findings=len(part.report.findings),
        unchanged=recipe.unchanged,
        seconds=shop.clock.monotonic() - part.ticks,
    )


def _above(root: Path) -> Path:
    """Return the nearest folder above a work folder that is there."""
    return next(folder for folder in root.absolute().parents if folder.is_dir())


@contextmanager
def _spool_beside(root: Path) -> Iterator[Path]:
    """Lend a folder on the file system of the work folder, for weights that must be copied to it."""
    with lent(_above(root), _SPOOL) as folder:
        yield folder


def _leave_statements(
    recipe: Recipe,
    artifacts: tuple[Artifact, ...],
    report: ScanReport,
    made: dict[str, object],
    payload_digest: str,
    work: WorkFolder,
) -> None:
    bill = sbom.predicate(
        artifacts,
        release=recipe.release.name,
        serial=recipe.release.serial,
        created=recipe.release.created,
        payload_digest=payload_digest,
    )
    work.attest.mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("provenance", statement.about_files(artifacts, statement.PROVENANCE, made)),
        ("sbom", statement.about_payload(payload_digest, statement.CYCLONEDX, bill)),
        ("scan", statement.about_payload(payload_digest, statement.SCAN, report.predicate())),
    ):
        put(work.attest / f"{name}.json", content)
