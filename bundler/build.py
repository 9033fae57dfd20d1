"""The build: recipe, sources, scan, candidate and statements; the connected side up to the first signature.

Nothing is written to the work folder before the scan has passed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bundler import assemble, measure, provenance, sbom, statement
from bundler.artifact import Artifact, Component, Gathered, Material
from bundler.cache import Cache
from bundler.download import Line
from bundler.enginetools import EngineTools
from bundler.errors import RecipeError
from bundler.process import Progress, quiet
from bundler.recipe import Recipe
from bundler.scan import ScanReport, scan
from bundler.sources import evals, llama_wheel, modelfiles, ospackages, server, weights, wheels
from bundler.sources.server import Checkout
from bundler.sources.wheels import ChosenWheel, Fetch, Locked
from bundler.toolchain import Toolchain, ready
from bundler.wheelfile import read as read_wheel
from bundler.workfolder import WorkFolder
from media.clock import Clock

_ALWAYS = ("server", "host")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A release that nobody has signed yet."""

    release: str
    serial: int
    payload_digest: str
    files: int
    length: int
    findings: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What a build works with; tests hand in their own."""

    checkout: Checkout
    cache: Cache
    toolchain: Toolchain
    fetch: Fetch
    clock: Clock
    progress: Progress = quiet
    line: Line = field(default_factory=Line)


def build(
    recipe: Recipe,
    work: WorkFolder,
    *,
    cache: Cache,
    clock: Clock,
    progress: Progress = quiet,
    counted: measure.Progress = measure.no_progress,
    checkout: Path | None = None,
) -> Candidate:
    """Make the candidate of a recipe in a work folder.

    Args:
        recipe: What the release carries.
        work: An empty folder, or one with an unsigned candidate, which is replaced.
        cache: Downloads and built wheels.
        clock: For the build times in the provenance statement.
        progress: Told each step.
        counted: Told the bytes of each download.
        checkout: The source tree of Sealift, where it is not the one this program runs from.

    Raises:
        SealiftError: A source, the scan or the work folder refused; nothing half-made is left.
    """
    assemble.require_free(work)
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
    )
    return build_in(shop, recipe, work)


def build_in(shop: Workshop, recipe: Recipe, work: WorkFolder) -> Candidate:
    """Make the candidate with the tools at hand; see `build`.

    Raises:
        SealiftError: As `build`.
    """
    started, ticks = shop.clock.now(), shop.clock.monotonic()
    gathered = gather(shop, recipe)
    artifacts = assemble.merged(gathered.artifacts)
    report = scan(artifacts, allowed=recipe.scan.allowed, progress=shop.progress)
    shop.progress(f"writing the candidate: {len(artifacts)} files")
    plan = assemble.assemble(recipe, artifacts, work)
    made = provenance.predicate(recipe, gathered.materials, started=started, finished=shop.clock.now())
    _leave_statements(recipe, artifacts, report, made, plan.payload_digest, work)
    return Candidate(
        release=plan.release,
        serial=plan.serial,
        payload_digest=plan.payload_digest,
        files=len(artifacts),
        length=sum(artifact.length for artifact in artifacts),
        findings=len(report.findings),
        seconds=shop.clock.monotonic() - ticks,
    )


def gather(shop: Workshop, recipe: Recipe) -> Gathered:
    """Return everything that the recipe names, pinned and described, with `data/release.json`.

    Raises:
        SealiftError: A source refused.
    """
    artifacts: list[Artifact] = []
    materials: list[Material] = [shop.checkout.material()]
    environments: dict[str, str] = {}
    carried: dict[str, ChosenWheel] = {}
    engines: dict[str, tuple[ChosenWheel, ...]] = {}
    for name, chosen, made_of in _environments(shop, recipe):
        requirements = Artifact.of_bytes(
            server.requirements_text(chosen), target=f"data/server/requirements-{name}.txt", kind="server"
        )
        environments[name] = requirements.target
        artifacts.append(requirements)
        materials += made_of
        carried |= {wheel.sha256: wheel for wheel in chosen}
        engines[name] = tuple(wheel for wheel in chosen if wheel.name != server.DISTRIBUTION)
    artifacts += [_wheel(wheel) for wheel in carried.values()]
    for model in recipe.models:
        engine = f"engine-{model.engine.replace('.', '-')}"
        environment = next(item.sha256 for item in artifacts if item.target == environments[engine])
        pinned = weights.obtain(
            recipe, model, cache=shop.cache, fetch=shop.fetch, line=shop.line, progress=shop.progress
        )
        tools = partial(EngineTools.of, engines.get(engine, ()), recipe.target, shop.cache)
        pinned = weights.quantized(model, pinned, cache=shop.cache, engine=tools, progress=shop.progress)
        brought = modelfiles.gather(recipe, model, pinned, environment=environment)
        artifacts += brought.artifacts
        materials += brought.materials
    sources: list[Gathered] = [server.host_files(shop.checkout), evals.gather(recipe, recipe.models)]
    if recipe.debs is not None:
        sources.append(ospackages.gather(recipe, recipe.debs, cache=shop.cache, progress=shop.progress))
    for brought in sources:
        artifacts += brought.artifacts
        materials += brought.materials
    debs = [artifact.target for artifact in artifacts if artifact.target.endswith(".deb")]
    artifacts.append(assemble.release_facts(recipe, environments=environments, debs=debs))
    return Gathered(artifacts=tuple(artifacts), materials=tuple(materials))


def _environments(shop: Workshop, recipe: Recipe) -> list[tuple[str, tuple[ChosenWheel, ...], list[Material]]]:
    """Return, for each environment, every wheel it consists of and what they were made of."""
    own = _own_wheel(shop, recipe)
    built_of: list[Material] = []
    built = {llama_wheel.PACKAGE: _llama(shop, recipe, built_of)}
    found: list[tuple[str, tuple[ChosenWheel, ...], list[Material]]] = []
    for name in (*_ALWAYS, *recipe.engines):
        lock = recipe.lock(name) or shop.checkout.lock(name)
        if not lock.is_file():
            raise RecipeError(
                what=f"locks.{name}: there is no such lock",
                why=f"a model needs the environment {name}",
                fix="make it with uv pip compile --generate-hashes --no-emit-index-url and name it in the recipe",
            )
        locked = wheels.parse_lock(lock.read_text(), label=lock.name)
        needed = wheels.needed(locked, recipe.target, label=lock.name)
        chosen = wheels.obtain(
            needed, recipe.target, cache=shop.cache, fetch=shop.fetch, built=built, progress=shop.progress
        )
        downloaded = [
            Material(uri=f"pkg:pypi/{wheel.name}@{wheel.version}", sha256=wheel.sha256)
            for wheel in chosen
            if wheel.name not in built
        ]
        found.append((name, (*chosen, own), [*downloaded, *built_of]))
    return found


def _own_wheel(shop: Workshop, recipe: Recipe) -> ChosenWheel:
    with shop.cache.scratch() as folder:
        made = server.build_wheel(
            shop.checkout, shop.toolchain, epoch=recipe.source_date_epoch, folder=folder, progress=shop.progress
        )
        kept = shop.cache.add(made.file, sha256=made.sha256, name=made.file.name)
    return ChosenWheel(name=made.name, version=made.version, file=kept, sha256=made.sha256)


def _llama(shop: Workshop, recipe: Recipe, built_of: list[Material]) -> Callable[[Locked], Path]:
    locked = wheels.parse_lock(shop.checkout.lock("build").read_text(), label="build.txt")
    versions = {package.name: package.version for package in locked}

    def obtain(package: Locked) -> Path:
        found = llama_wheel.obtain(
            package,
            recipe.target,
            cache=shop.cache,
            toolchain=lambda: shop.toolchain,
            tool_versions=versions,
            clock=shop.clock,
            progress=shop.progress,
        )
        built_of.append(found.material)
        return found.file

    return obtain


def _wheel(wheel: ChosenWheel) -> Artifact:
    kind = "generic" if wheel.name == server.DISTRIBUTION else "pypi"
    return Artifact.of_file(
        wheel.file,
        target=f"data/wheels/{wheel.file.name}",
        kind="wheel",
        component=Component(
            name=wheel.name,
            version=wheel.version,
            purl=f"pkg:{kind}/{wheel.name}@{wheel.version}",
            license=read_wheel(wheel.file).license,
        ),
    )


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
        (work.attest / f"{name}.json").write_bytes(content)
