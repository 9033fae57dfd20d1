"""The recipe: everything that decides what a release carries, in one TOML file that two people can read and review.

Strict: unknown keys, wrong types and unpinned sources are refused, and the error names the dotted key and, where it is
certain, the line. Everything from outside is pinned by SHA-256. Paths are relative to the recipe. The same recipe,
locks and cache give the same bytes: `release.created` is the only time that reaches the payload.

One recipe makes one release for all sites of `release.sites`, or with `[[site]]` one release for each site.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from packaging.utils import canonicalize_name
from pydantic import Field, ValidationError

from bundler.errors import RecipeError
from bundler.plan import REHEARSAL_LEVELS
from bundler.probe.facts import Probe
from bundler.recipe_checks import faults
from bundler.recipe_faults import FIX, FaultError, of_fault, of_validation
from bundler.recipe_fields import Many, Section
from bundler.recipe_sections import (
    AcceptedLicence,
    AllowedFinding,
    DebsSection,
    Kind,
    LlamaCppSection,
    LocksSection,
    ModelSection,
    ReleaseSection,
    ScanSection,
    SiteSection,
    TargetSection,
    UpdateSection,
)
from bundler.recipe_sources import ProgramSection
from bundler.target import Target
from media import toml
from media.digest import sha256_hex

__all__ = ["AcceptedLicence", "AllowedFinding", "DebsSection", "ModelSection", "Recipe", "TargetSection"]

FORMAT: Final = 1
_MAX_BYTES = 256 * 1024


class Recipe(Section):
    """The whole recipe."""

    format: Literal[1]
    release: ReleaseSection
    targets: Annotated[tuple[TargetSection, ...], Many, Field(min_length=1, max_length=20)]
    site: Annotated[tuple[SiteSection, ...], Many, Field(max_length=100)] = ()
    models: Annotated[tuple[ModelSection, ...], Many, Field(max_length=50)] = ()
    programs: Annotated[tuple[ProgramSection, ...], Many, Field(max_length=10)] = ()
    llama_cpp: LlamaCppSection = LlamaCppSection()
    debs: DebsSection | None = None
    update: UpdateSection | None = None
    locks: LocksSection = LocksSection()
    scan: ScanSection = ScanSection()
    accept_licences: Annotated[tuple[AcceptedLicence, ...], Many, Field(max_length=100)] = ()
    folder: Path = Field(default=Path(), exclude=True, repr=False)
    sha256: str = Field(default="", exclude=True, repr=False)

    @property
    def machines(self) -> tuple[Target, ...]:
        """The machines that the release is for, with what their probes say.

        Raises:
            RecipeError: A probe cannot be read or contradicts the recipe, or two machines need different wheels.
        """
        found = []
        for number, section in enumerate(self.targets):
            probe = None if section.probe is None else Probe.load(self.beside(section.probe))
            stated = section.model_dump(exclude_unset=True, exclude={"probe"})
            found.append(Target.from_table(stated, key=f"targets.{number}", probe=probe))
        if len({(machine.python, machine.platform, machine.glibc) for machine in found}) != 1:
            raise RecipeError(
                what="targets: all targets of one release have one python, platform and glibc",
                why="a release carries one set of wheels",
                fix="give the other machines a [[site]] of their own",
            )
        return tuple(found)

    @property
    def target(self) -> Target:
        """The machine that wheels are chosen for; all targets of one release agree on it.

        Raises:
            RecipeError: As `machines`.
        """
        return self.machines[0]

    @property
    def kind(self) -> Kind:
        """What kind of release this is: without models and without a kind said, one of server and system alone."""
        return self.release.kind or ("full" if self.models else "server")

    @property
    def unchanged(self) -> tuple[str, ...]:
        """What a site keeps as it is when it installs this release; nothing for a full one."""
        if self.kind == "full":
            return ()
        kept = ["models", "engines"]
        if self.kind == "security-update":
            kept += ["the server's own code", "playbooks and units"]
            kept += ["Debian packages"] if self.debs is None else []
            kept += ["wheels"] if self.update is None else []
        return tuple(kept)

    @property
    def demanded_rehearsal(self) -> str:
        """The highest level of rehearsal that a site of this release demands; empty where none does."""
        demanded = {site.policy.rehearsal for site in self.site}
        return next((level for level in reversed(REHEARSAL_LEVELS) if level in demanded), "")

    @property
    def source_date_epoch(self) -> int:
        """Seconds of `release.created`: the only time that reaches the payload."""
        return int(self.release.created.timestamp())

    @property
    def engines(self) -> tuple[str, ...]:
        """Names of the engine environments that the models need, e.g. ``engine-llama-cpp``."""
        return tuple(sorted({model.environment for model in self.models}))

    def lock(self, name: str) -> Path | None:
        """Return the lock that the recipe names for an environment, if it names one."""
        given: str | None = getattr(self.locks, name.replace("-", "_"))
        return None if given is None else self.beside(given)

    def left_out(self, name: str) -> dict[str, str]:
        """Return the dependencies that an environment does without, and why, by canonical name."""
        found = (each for each in self.locks.left_out if each.environment == name)
        return {canonicalize_name(each.package): each.reason for each in found}

    def beside(self, relative: str) -> Path:
        """Return the host path of a file that the recipe names."""
        return self.folder / relative

    def releases(self) -> tuple["Recipe", ...]:
        """Return a recipe for each release to make: one for each `[[site]]`, else this one."""
        return tuple(self._for(site) for site in self.site) or (self,)

    def _for(self, site: SiteSection) -> "Recipe":
        chosen = self.models if site.models is None else [model for model in self.models if model.name in site.models]
        return self.model_copy(
            update={
                "release": self.release.model_copy(update={"sites": (site.name,)}),
                "targets": tuple(target for target in self.targets if target.profile in site.targets),
                "site": (site,),
                "models": tuple(chosen),
            }
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and check a recipe file.

        Raises:
            RecipeError: It is absent, too large, not TOML, or a key is unknown or wrong; `what` names the dotted key.
        """
        try:
            untrusted = path.read_bytes()
        except OSError as error:
            raise RecipeError(
                what=f"the recipe {path.name} cannot be read", why=error.strerror or "", fix="give the recipe's path"
            ) from error
        return cls.parse(untrusted, folder=path.parent)

    @classmethod
    def parse(cls, untrusted: bytes, *, folder: Path) -> Self:
        """Check the bytes of a recipe that lies in `folder`.

        Raises:
            RecipeError: As `load`.
        """
        if len(untrusted) > _MAX_BYTES:
            raise RecipeError(what="the recipe is too large", why=f"the limit is {_MAX_BYTES} bytes", fix=FIX)
        try:
            data, text = toml.read(untrusted), untrusted.decode()
        except (ValueError, RecursionError) as error:
            raise RecipeError(what="the recipe is not TOML", why=str(error)[:200], fix=FIX) from error
        for ours in ("folder", "sha256"):
            if ours in data:
                raise RecipeError(what=f"{ours}: not a key of a recipe", why="unknown keys are refused", fix=FIX)
        try:
            data = _one_spelling(data)
            found = cls.model_validate({**data, "folder": folder, "sha256": sha256_hex(untrusted)})
            for fault in faults(found):
                raise fault
        except ValidationError as error:
            raise of_validation(error, text) from error
        except FaultError as fault:
            raise of_fault(fault, text) from fault
        except RecursionError as error:
            raise RecipeError(what="the recipe is nested too deeply", why="no key of a recipe is", fix=FIX) from error
        return found


def _one_spelling(data: dict[str, Any]) -> dict[str, Any]:
    """Read `[[target]]` as `[[targets]]`."""
    if "target" not in data:
        return data
    if "targets" in data:
        raise FaultError(("target",), "the recipe has [[targets]] too", why="they are the same", fix="use one of them")
    return {**{key: value for key, value in data.items() if key != "target"}, "targets": data["target"]}
