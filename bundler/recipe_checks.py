"""What tables of a recipe may not say together: the checks that need more than one of them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from bundler.errors import RecipeError
from bundler.recipe_faults import FaultError, means_patients, patient_file
from bundler.recipe_lines import Key
from bundler.recipe_sections import (
    DebsSection,
    Kind,
    LlamaCppSection,
    ModelSection,
    ReleaseSection,
    SiteSection,
    TargetSection,
    UpdateSection,
)
from bundler.recipe_sources import HttpFile, HubFiles, LocalFile, LocalFolder, ProgramSection
from bundler.target import Target


class Tables(Protocol):
    """What the checks read of a recipe."""

    @property
    def release(self) -> ReleaseSection:
        """The table of that name, as all below."""

    @property
    def targets(self) -> tuple[TargetSection, ...]: ...  # noqa: D102
    @property
    def site(self) -> tuple[SiteSection, ...]: ...  # noqa: D102
    @property
    def models(self) -> tuple[ModelSection, ...]: ...  # noqa: D102
    @property
    def programs(self) -> tuple[ProgramSection, ...]: ...  # noqa: D102
    @property
    def llama_cpp(self) -> LlamaCppSection: ...  # noqa: D102
    @property
    def debs(self) -> DebsSection | None: ...  # noqa: D102
    @property
    def update(self) -> UpdateSection | None: ...  # noqa: D102
    @property
    def kind(self) -> Kind: ...  # noqa: D102
    @property
    def machines(self) -> tuple[Target, ...]: ...  # noqa: D102
    @property
    def model_fields_set(self) -> set[str]: ...  # noqa: D102
    def releases(self) -> "Sequence[Tables]": ...  # noqa: D102


def faults(recipe: Tables) -> Iterator[FaultError]:
    """Yield what is wrong between the tables; the first one counts."""
    yield from _twice(recipe)
    yield from _sites(recipe)
    yield from _kind(recipe)
    yield from _safetensors(recipe)
    yield from _attached(recipe)
    yield from _on_gpus(recipe)
    yield from _patients(recipe)


def _twice(recipe: Tables) -> Iterator[FaultError]:
    for key, field, names in (
        ("models", "name", [model.name for model in recipe.models]),
        ("targets", "profile", [target.profile for target in recipe.targets]),
        ("site", "name", [site.name for site in recipe.site]),
        ("programs", "name", [program.name for program in recipe.programs]),
    ):
        for number, name in enumerate(names):
            if name in names[:number]:
                yield FaultError((key, number, field), f"{name} is there twice", why=f"every {field} differs")


def _sites(recipe: Tables) -> Iterator[FaultError]:
    if recipe.site and recipe.release.sites:
        yield FaultError(("release", "sites"), "the recipe has [[site]] too", why="both say for whom it is")
    if not recipe.site and not recipe.release.sites:
        yield FaultError(("release", "sites"), "no site is named", why="a release is for at least one site")
    used: dict[str, set[str]] = {"targets": set(), "models": set()}
    known = {
        "targets": {target.profile for target in recipe.targets},
        "models": {model.name for model in recipe.models},
    }
    for number, site in enumerate(recipe.site):
        used["models"] |= known["models"] if site.models is None else set()
        for field, names in (("targets", site.targets), ("models", site.models or ())):
            used[field] |= set(names)
            for name in names:
                if name not in known[field]:
                    yield FaultError(("site", number, field), f"{name} is not in the recipe", why=f"see [[{field}]]")
    for field in ("targets", "models") if recipe.site else ():
        for name in sorted(known[field] - used[field]):
            yield FaultError((field,), f"{name} is for no site", why="every one is somebody's", fix="remove it")
    if not any(target.probe for target in recipe.targets):
        for number, single in enumerate(recipe.releases()):
            try:
                _ = single.machines
            except RecipeError as error:
                key, _, message = error.what.partition(": ")
                path: list[Key] = [int(part) if part.isdigit() else part for part in key.split(".")]
                above: list[Key] = ["site", number, "targets"] if recipe.site and path == ["targets"] else path
                yield FaultError(above, message, why=error.why, fix=error.fix)


def _kind(recipe: Tables) -> Iterator[FaultError]:
    kind, release = recipe.kind, recipe.release
    if kind == "full" and not recipe.models:
        yield FaultError(("release", "kind"), "a full release carries models", why="this recipe names none")
    if kind == "full" and release.base is not None:
        yield FaultError(("release", "base"), "a full release stands alone", why="it brings all that a site needs")
    if release.base is not None and release.base >= release.serial:
        yield FaultError(("release", "base"), "it is not below serial", why="it names the release that sites run now")
    if recipe.update is not None and kind != "security-update":
        yield FaultError(("update",), "only a security update has it", why=f"this release is {kind}")
    if kind == "server" and recipe.models:
        yield FaultError(("models",), "a release of the server carries none", why="sites keep the models they have")
    if kind != "security-update":
        if recipe.debs is not None and not recipe.debs.packages:
            yield FaultError(("debs", "packages"), "it names no package", why="only a security update takes all")
        return
    if release.base is None:
        yield FaultError(("release", "base"), "it is missing", why="an update changes a release that the site has")
    for key in ("models", "locks", "programs", "llama_cpp"):
        if key in recipe.model_fields_set:
            yield FaultError(
                (key,),
                "a security update does not change this",
                why="it brings Debian packages and wheels, and leaves models, engines, server and host files alone",
                fix="remove it, or make a release of another kind",
            )
    if recipe.debs is None and recipe.update is None:
        yield FaultError(("update",), "a security update brings debs, wheels or both", why="this recipe names neither")


def _safetensors(recipe: Tables) -> Iterator[FaultError]:
    """Yield models for llama.cpp whose source names safetensors: nothing that is packaged converts them (ADR 27)."""
    for number, model in enumerate(recipe.models):
        source = model.source
        names: Iterable[str] = ()
        if isinstance(source, LocalFolder | HubFiles):
            names = source.files
        elif isinstance(source, HttpFile):
            names = source.urls
        else:
            names = [source.path if isinstance(source, LocalFile) else source.member]
        if model.engine == "llama.cpp" and any(name.endswith(".safetensors") for name in names):
            yield FaultError(
                ("models", number, "source"),
                "llama.cpp loads GGUF, and these are safetensors",
                why="the converter is a script of llama.cpp's repository that nobody packages, so no lock can pin it",
                fix="convert it once as docs/operator/models.md says and name the .gguf, or serve it by vllm",
            )


def _attached(recipe: Tables) -> Iterator[FaultError]:
    """Yield programs that two sections bring to one place, that no engine runs, and GPUs that no machine has."""
    owners: dict[str, str] = {}
    is_attached = any(model.engine == "attached" for model in recipe.models)
    for number, program in enumerate(recipe.programs):
        if not is_attached:
            yield FaultError(("programs", number), f"nothing here runs {program.name}", why="no model is attached")
        for path in program.files:
            if (other := owners.setdefault(path, program.name)) != program.name:
                yield FaultError(("programs", number, "files"), f"{path} is {other}'s too", why="it lies there once")
    for number, model in enumerate(recipe.models):
        attached = model.runtime.attached
        if (
            attached is not None
            and attached.needs_gpu
            and not any(target.gpu or target.probe for target in recipe.targets)
        ):
            yield FaultError(
                ("models", number, "runtime", "attached", "needs_gpu"),
                "no target names a GPU",
                why="the engine answers on one alone",
                fix="say which: targets.gpu",
            )


def _on_gpus(recipe: Tables) -> Iterator[FaultError]:
    """Yield models of llama.cpp with layers on GPUs that nothing computes on, and a backend that no model uses."""
    served = [(number, model) for number, model in enumerate(recipe.models) if model.engine == "llama.cpp"]
    if recipe.llama_cpp.backend is not None and not served:
        yield FaultError(("llama_cpp", "backend"), "no model is served by llama.cpp", why="nothing would use it")
    for number, model in served:
        table = model.runtime.llama_cpp
        if table is None or not table.num_gpu:
            continue
        key = ("models", number, "runtime", "llama_cpp", "num_gpu")
        if recipe.llama_cpp.backend is None:
            yield FaultError(
                key,
                "llama.cpp is built for processors alone",
                why="no layer would find a GPU",
                fix='say what it computes on: [llama_cpp] backend = "vulkan"',
            )
        elif not any(target.gpu or target.probe for target in recipe.targets):
            yield FaultError(key, "no target names a GPU", why="layers are to lie on one", fix="say which: targets.gpu")


def _patients(recipe: Tables) -> Iterator[FaultError]:
    for number, model in enumerate(recipe.models):
        for at, path in enumerate(model.evals):
            if means_patients(path.rpartition("/")[2]):
                yield patient_file(("models", number, "evals", at), path)
        if isinstance(model.source, LocalFile | LocalFolder):
            names = [model.source.path, *(model.source.files if isinstance(model.source, LocalFolder) else ())]
            for name in names:
                if means_patients(name.rpartition("/")[2]):
                    yield patient_file(("models", number, "source"), name)
