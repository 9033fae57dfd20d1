"""Gathers what a recipe names: wheels of every environment, models, task sets, packages, and `data/release.json`.

A security update brings packages and the wheels that change, and nothing of the server, its host files or its models.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from bundler import assemble, processor
from bundler.artifact import Artifact, Component, Gathered, Material
from bundler.cache import Cache
from bundler.download import Line
from bundler.enginedebs import require_packages
from bundler.enginetools import EngineTools
from bundler.errors import RecipeError
from bundler.locks import ATTACHED, LLAMA_CPP, VLLM, locked_in, needed_of, update_lock
from bundler.needs import Needs
from bundler.process import Progress, quiet
from bundler.recipe import Recipe
from bundler.recipe_sources import PROGRAM
from bundler.scanning import rendering
from bundler.sources import evals, llama_backend, llama_wheel, ospackages, programs, server, wheels
from bundler.sources.onemodel import Kit, bring
from bundler.sources.server import Checkout
from bundler.sources.wheels import ChosenWheel, Fetch, Locked
from bundler.toolchain import Toolchain
from bundler.wheelfile import read as read_wheel
from bundler.wheelneeds import require_fit
from media.clock import Clock
from media.enginepackages import VULKAN

_ALWAYS: Final = ("server", "host")
_NOT_BY_UPDATE: Final = VLLM | {server.DISTRIBUTION, llama_wheel.PACKAGE, VULKAN}


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
    own_wheels: dict[int, ChosenWheel] = field(default_factory=dict)
    proposes: Callable[[str], None] | None = None


def gather(shop: Workshop, recipe: Recipe) -> Gathered:
    """Return everything that the recipe names, pinned and described, with `data/release.json`.

    Raises:
        SealiftError: A source refused.
    """
    if recipe.kind == "security-update":
        return _update(shop, recipe)
    artifacts: list[Artifact] = []
    materials: list[Material] = [shop.checkout.material()]
    environments: dict[str, str] = {}
    carried: dict[str, ChosenWheel] = {}
    engines: dict[str, tuple[ChosenWheel, ...]] = {}
    references: dict[str, Sequence[Mapping[str, str]]] = {}
    pins: dict[str, Mapping[str, str]] = {}
    needs = _stated(recipe)
    own = _own_wheel(shop, recipe)
    for name, chosen, made_of in _environments(shop, recipe, own):
        left_out = recipe.left_out(name)
        needs |= require_fit(chosen, recipe.machines, label=name, without=left_out)
        requirements = _requirements(name, chosen, left_out)
        environments[name] = requirements.target
        artifacts.append(requirements)
        materials += made_of
        carried |= {wheel.sha256: wheel for wheel in chosen}
        engines[name] = tuple(wheel for wheel in chosen if wheel.name != server.DISTRIBUTION)
    packages = _debs(shop, recipe)
    _require_packages(recipe, engines, packages)
    artifacts += [_wheel(wheel) for wheel in carried.values()]
    for model in recipe.models:
        engine = model.environment
        environment = next(item.sha256 for item in artifacts if item.target == environments[engine])
        kit = Kit(
            cache=shop.cache,
            fetch=shop.fetch,
            line=shop.line,
            progress=shop.progress,
            engine=partial(EngineTools.of, engines.get(engine, ()), recipe.target, shop.cache),
            code=own.file,
            wheels=engines[engine],
        )
        made = bring(recipe, model, kit, environment=environment)
        artifacts += made.gathered.artifacts
        materials += made.gathered.materials
        references[model.name] = made.references
        rendered = rendering.pin(made.template, own.file, label=f"models.{model.name}", progress=shop.progress)
        pins[model.name] = {**made.pins, **rendered}
    sources: list[Gathered] = [server.host_files(shop.checkout), evals.gather(recipe, recipe.models)]
    for brought in (*sources, packages):
        artifacts += brought.artifacts
        materials += brought.materials
    debs = [artifact.target for artifact in artifacts if artifact.target.endswith(".deb")]
    facts = assemble.release_facts(recipe, environments=environments, debs=debs, references=references, pins=pins)
    artifacts.append(facts)
    return Gathered(artifacts=tuple(artifacts), materials=tuple(materials), needs=needs)


def _update(shop: Workshop, recipe: Recipe) -> Gathered:
    """Return what a security update brings: packages, the wheels that change, and in which environments they do."""
    artifacts: list[Artifact] = []
    materials: list[Material] = []
    environments: dict[str, str] = {}
    needs = Needs()
    if recipe.update is not None:
        locked = locked_in(recipe, update_lock(recipe, recipe.update))
        chosen = _obtained(shop, recipe, locked, built={})
        if not chosen or any(wheel.name in _NOT_BY_UPDATE for wheel in chosen):
            raise RecipeError(
                what="update.wheels: it locks no wheel, or one that a security update does not change",
                why=f"{' and '.join(sorted(_NOT_BY_UPDATE))} come with a release of another kind",
                fix="lock only the packages that the update replaces",
            )
        # Whether they are complete shows where they are installed; what they ask of a processor shows here.
        for machine in recipe.machines:
            needs |= Needs(cpu_flags=tuple(sorted(processor.needed(chosen, machine))))
        for name in sorted(recipe.update.environments):
            listed = _requirements(name, chosen)
            environments[name] = listed.target
            artifacts.append(listed)
        artifacts += [_wheel(wheel) for wheel in chosen]
        materials += [_downloaded(wheel) for wheel in chosen]
    packages = _debs(shop, recipe)
    artifacts += packages.artifacts
    materials += packages.materials
    debs = [artifact.target for artifact in artifacts if artifact.target.endswith(".deb")]
    artifacts.append(assemble.release_facts(recipe, environments=environments, debs=debs))
    return Gathered(artifacts=tuple(artifacts), materials=tuple(materials), needs=needs)


def _debs(shop: Workshop, recipe: Recipe) -> Gathered:
    if recipe.debs is None:
        return Gathered(artifacts=())
    return ospackages.gather(recipe, recipe.debs, cache=shop.cache, clock=shop.clock, progress=shop.progress)


def _require_packages(recipe: Recipe, engines: Mapping[str, Sequence[ChosenWheel]], brought: Gathered) -> None:
    """Pass where each machine has, as far as it is known, or is brought the Debian packages that engines need.

    Raises:
        SourceError: It has not, and is not.
    """
    named = () if recipe.debs is None else recipe.debs.packages
    travel = {each.component.name for each in brought.artifacts}
    for number, machine in enumerate(recipe.machines):
        has = ospackages.present(recipe, machine, is_first=number == 0) | travel
        for name, chosen in engines.items():
            require_packages(chosen, machine, has, label=name, named=named)


def _stated(recipe: Recipe) -> Needs:
    """Return what the recipe says that its programs ask of a processor, where every machine has it.

    Raises:
        SourceError: One has not.
    """
    for program in recipe.programs:
        for machine in recipe.machines:
            processor.require_stated(frozenset(program.cpu_flags), f"the program {program.name}", machine)
    return Needs(cpu_flags=tuple(sorted({flag for program in recipe.programs for flag in program.cpu_flags})))


def _environments(
    shop: Workshop, recipe: Recipe, own: ChosenWheel
) -> list[tuple[str, tuple[ChosenWheel, ...], list[Material]]]:
    """Return, for each environment, every wheel it consists of and what they were made of."""
    built_of: list[Material] = []
    built = {llama_wheel.PACKAGE: _llama(shop, recipe, built_of)}
    found: list[tuple[str, tuple[ChosenWheel, ...], list[Material]]] = []
    for name in (*_ALWAYS, *recipe.engines):
        needed = needed_of(recipe, name, shop.checkout)
        chosen = _obtained(shop, recipe, needed, built=built)
        made_of = [_downloaded(wheel) for wheel in chosen if wheel.name not in built] + built_of
        if name == LLAMA_CPP and recipe.llama_cpp.backend is not None:
            backend, material = _backend(shop, recipe, needed)
            chosen += (backend,)
            made_of.append(material)
        if name == ATTACHED:
            chosen += programs.wheels_of(recipe, cache=shop.cache)
            made_of += programs.materials(recipe)
        found.append((name, (*chosen, own), made_of))
    return found


def _obtained(
    shop: Workshop, recipe: Recipe, needed: Sequence[Locked], *, built: dict[str, Callable[[Locked], Path]]
) -> tuple[ChosenWheel, ...]:
    return wheels.obtain(needed, recipe.target, cache=shop.cache, fetch=shop.fetch, built=built, progress=shop.progress)


def _requirements(name: str, chosen: tuple[ChosenWheel, ...], left_out: Mapping[str, str] | None = None) -> Artifact:
    return Artifact.of_bytes(
        server.requirements_text(chosen, left_out or {}), target=f"data/server/requirements-{name}.txt", kind="server"
    )


def _downloaded(wheel: ChosenWheel) -> Material:
    return Material(uri=f"pkg:pypi/{wheel.name}@{wheel.version}", sha256=wheel.sha256)


def _own_wheel(shop: Workshop, recipe: Recipe) -> ChosenWheel:
    """Return our own wheel, made once for all sites."""
    epoch = recipe.source_date_epoch
    if epoch not in shop.own_wheels:
        with shop.cache.scratch() as folder:
            made = server.build_wheel(shop.checkout, shop.toolchain, epoch=epoch, folder=folder, progress=shop.progress)
            kept = shop.cache.add(made.file, sha256=made.sha256, name=made.file.name)
        shop.own_wheels[epoch] = replace(made, file=kept)
    return shop.own_wheels[epoch]


def _builder(shop: Workshop, recipe: Recipe) -> llama_wheel.Builder:
    locked = wheels.parse_lock(shop.checkout.lock("build").read_text(), label="build.txt")
    return llama_wheel.Builder(
        target=recipe.target,
        cache=shop.cache,
        toolchain=lambda: shop.toolchain,
        tool_versions={package.name: package.version for package in locked},
        clock=shop.clock,
        progress=shop.progress,
    )


def _backend(shop: Workshop, recipe: Recipe, needed: Sequence[Locked]) -> tuple[ChosenWheel, Material]:
    """Return the wheel with llama.cpp's library for GPUs, made of the source that its engine is made of.

    Raises:
        RecipeError: The engine's lock has no such source.
        SealiftError: It cannot be built.
    """
    package = next((each for each in needed if each.name == llama_wheel.PACKAGE), None)
    if package is None:
        raise RecipeError(
            what="llama_cpp.backend: the lock of llama.cpp's environment has no source of it",
            why=f"{llama_wheel.PACKAGE} is not locked there",
            fix="lock it in locks.engine-llama-cpp, or take llama_cpp.backend out",
        )
    found = llama_backend.obtain(package, _builder(shop, recipe))
    wheel = ChosenWheel(name=VULKAN, version=package.version, file=found.file, sha256=found.sha256)
    return wheel, found.material


def _llama(shop: Workshop, recipe: Recipe, built_of: list[Material]) -> Callable[[Locked], Path]:
    builder = _builder(shop, recipe)

    def obtain(package: Locked) -> Path:
        found = llama_wheel.obtain(package, builder)
        built_of.append(found.material)
        return found.file

    return obtain


def _wheel(wheel: ChosenWheel) -> Artifact:
    is_made_here = wheel.name in (server.DISTRIBUTION, VULKAN) or wheel.name.startswith(PROGRAM)
    kind = "generic" if is_made_here else "pypi"
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
