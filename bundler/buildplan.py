"""What a build would do: what it fetches, how large that is where anybody knows, and what each site gets.

Reads the recipe, its locks and what the cache holds; fetches, builds, hashes and writes nothing.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from bundler.cache import Cache
from bundler.locks import LLAMA_CPP, locked_in, needed_of, update_lock
from bundler.recipe import ModelSection, Recipe
from bundler.recipe_sources import HttpFile, HubFiles, LocalFile, LocalFolder, PypiPackage
from bundler.sources import llama_wheel, ospackages, wheels
from bundler.sources.server import Checkout
from bundler.workfolder import WorkFolder
from media.enginepackages import VULKAN

Source = PypiPackage | LocalFile | LocalFolder | HttpFile | HubFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that travels.

    Args:
        what: Its name.
        origin: "here" beside the recipe, "cache", "fetch", or "build" for what is compiled here.
        length: Bytes, where they are known.
        sha256: Its pin, where it has one.
    """

    what: str
    origin: str
    length: int | None = None
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePlan:
    """What one release would carry."""

    sites: tuple[str, ...]
    targets: tuple[str, ...]
    work: str
    models: tuple[str, ...]
    items: tuple[Item, ...]
    unchanged: tuple[str, ...]
    rehearsal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """The whole plan of one recipe; `str` gives it for people."""

    release: str
    serial: int
    kind: str
    recipe_sha256: str
    accept_licences: tuple[str, ...]
    releases: tuple[SitePlan, ...]

    @property
    def to_fetch(self) -> tuple[Item, ...]:
        """What is fetched, each once, however many sites get it."""
        return tuple(
            {
                (item.what, item.sha256): item
                for site in self.releases
                for item in site.items
                if item.origin == "fetch"
            }.values()
        )

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return {**asdict(self), "to_fetch": [asdict(item) for item in self.to_fetch]}

    def __str__(self) -> str:
        """Return the plan, a line for each thing."""
        lines = [f"{self.release}, serial {self.serial}, {self.kind}: {_number(len(self.releases), 'release')}"]
        for site in self.releases:
            lines.append(f"for {', '.join(site.sites)}, on {', '.join(site.targets)}")
            lines += [f"  work folder {site.work}"]
            lines += [f"  model {model}" for model in site.models]
            lines += [f"  {item.origin:5} {_size(item.length):>10}  {item.what}" for item in site.items]
            lines += [f"  leaves unchanged: {', '.join(site.unchanged)}"] if site.unchanged else []
            lines += [f"  rehearsal demanded: {site.rehearsal}"] if site.rehearsal else []
        lines += [f"licence accepted: {name}" for name in self.accept_licences]
        known = [item.length for item in self.to_fetch if item.length is not None]
        lines.append(
            f"to fetch: {_number(len(self.to_fetch), 'file')}, {len(known)} of them of known size, "
            f"{_size(sum(known)) if known else '0 B'} in all"
        )
        return "\n".join(lines)


def plan_build(
    recipe: Recipe, folders: Sequence[tuple[Recipe, WorkFolder]], *, cache: Cache, checkout: Checkout
) -> BuildPlan:
    """Return what building a recipe would do.

    Args:
        recipe: The whole recipe.
        folders: The recipe of each release and where it would be made.
        cache: What is there already.
        checkout: Has the locks that the recipe does not name.

    Raises:
        RecipeError: A lock or a probe cannot be read.
        SourceError: A lock is not one.
    """
    return BuildPlan(
        release=recipe.release.name,
        serial=recipe.release.serial,
        kind=recipe.kind,
        recipe_sha256=recipe.sha256,
        accept_licences=tuple(each.license for each in recipe.accept_licences),
        releases=tuple(_site(single, work, cache, checkout) for single, work in folders),
    )


def _site(recipe: Recipe, work: WorkFolder, cache: Cache, checkout: Checkout) -> SitePlan:
    items = [item for model in recipe.models for source in _sources(model) for item in _source(recipe, source, cache)]
    items += [_here(recipe, path) for path in dict.fromkeys(path for model in recipe.models for path in model.evals)]
    items += _wheels(recipe, cache, checkout)
    items += [Item(what=name, origin=origin) for name, origin in _packages(recipe, cache)]
    if recipe.kind != "security-update":
        items += [Item(what="sealift's own wheel, playbooks and units", origin="build")]
    return SitePlan(
        sites=recipe.release.sites,
        targets=tuple(machine.profile for machine in recipe.machines),
        work=work.root.name,
        models=tuple(f"{model.name} {model.version}, {model.quantization}, {model.engine}" for model in recipe.models),
        items=tuple(dict.fromkeys(items)),
        unchanged=recipe.unchanged,
        rehearsal=recipe.demanded_rehearsal,
    )


def _packages(recipe: Recipe, cache: Cache) -> list[tuple[str, str]]:
    """Return what travels of Debian's archives, and whether it is fetched or was by an earlier build."""
    debs = recipe.debs
    if debs is None:
        return []
    is_known = ospackages.is_remembered(recipe, debs, ospackages.require_known(recipe, debs), cache)
    named = [f"Debian package {name} and what it needs" for name in debs.packages]
    if recipe.kind == "security-update":
        newer = "what the security archive has newer"
        named = [f"Debian package {name}: {newer}" for name in debs.packages] or [f"Debian packages: {newer}"]
    return [(name, "cache" if is_known else "fetch") for name in named]


def _sources(model: ModelSection) -> list[Source]:
    """Return where the model comes from, and what lies beside its weights."""
    return [model.source, *(each.source for each in (model.embedding, model.draft) if each is not None)]


def _source(recipe: Recipe, source: Source, cache: Cache) -> list[Item]:
    match source:
        case PypiPackage():
            return [_pinned(PurePosixPath(source.member).name, source.sha256, cache)]
        case LocalFile():
            return [_here(recipe, source.path, source.sha256)]
        case LocalFolder():
            return [_here(recipe, f"{source.path}/{name}", sha256) for name, sha256 in sorted(source.files.items())]
        case HttpFile():
            return [_pinned(source.file_name, source.sha256, cache)]
        case HubFiles():
            return [_pinned(path, sha256, cache) for path, sha256 in sorted(source.files.items())]


def _wheels(recipe: Recipe, cache: Cache, checkout: Checkout) -> list[Item]:
    target = recipe.target
    if recipe.kind == "security-update":
        locks = [] if recipe.update is None else [locked_in(recipe, update_lock(recipe, recipe.update))]
    else:
        locks = [needed_of(recipe, name, checkout) for name in ("server", "host", *recipe.engines)]
    found: list[Item] = [
        _here(recipe, f"{program.path}/{PurePosixPath(path).name}", sha256)
        for program in recipe.programs
        for path, sha256 in sorted(program.files.items())
    ]
    if recipe.llama_cpp.backend is not None and LLAMA_CPP in recipe.engines:
        found.append(Item(what=VULKAN, origin="build", length=None))
    for needed in locks:
        for package in needed:
            name = f"{package.name} {package.version}"
            held = wheels.cached_length(package, target, cache=cache)
            origin = "fetch" if held is None else "cache"
            found.append(
                Item(what=name, origin="build" if package.name == llama_wheel.PACKAGE else origin, length=held)
            )
    return found


def _pinned(name: str, sha256: str, cache: Cache) -> Item:
    held = cache.peek(sha256)
    return Item(
        what=name,
        origin="fetch" if held is None else "cache",
        length=None if held is None else held.stat().st_size,
        sha256=sha256,
    )


def _here(recipe: Recipe, path: str, sha256: str = "") -> Item:
    file = recipe.beside(path)
    return Item(what=path, origin="here", length=file.stat().st_size if file.is_file() else None, sha256=sha256)


def _size(length: int | None) -> str:
    if length is None:
        return "unknown"
    return f"{length / 2**20:.1f} MiB" if length >= 2**20 else f"{length} B"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
