"""An attached engine's program from files beside the recipe: it travels in a wheel that is made of them here.

So it goes where wheels go: into the environment whose digest a version names, with its licence, through the scan, and
onto the machine by an installation that compares every file. The same files give the same wheel, byte for byte.
Refused here: a file that is not the pinned one, one for another kind of machine, and one that needs a newer glibc than
the target has.
"""

import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Final

from bundler import wheelfile
from bundler.artifact import Material
from bundler.cache import Cache
from bundler.digests import file_sha256
from bundler.errors import RecipeError, SourceError
from bundler.recipe import Recipe
from bundler.recipe_sources import ProgramSection
from bundler.sources import wheelmaking
from bundler.sources.weights import small_file
from bundler.sources.wheels import ChosenWheel
from bundler.target import Target
from bundler.wheelfile import WheelFacts
from media.digest import sha256_hex

_ELF: Final = b"\x7fELF\x02\x01"
_MACHINES: Final = {"x86_64": 62, "aarch64": 183}
"""e_machine of elf.h, by the name of the machine."""
_GLIBC: Final = re.compile(rb"GLIBC_2\.([0-9]{1,3})\x00")
_PYTHON: Final = b"#!python"


def wheels_of(recipe: Recipe, *, cache: Cache) -> tuple[ChosenWheel, ...]:
    """Return a wheel for each program of the recipe.

    Raises:
        SourceError: A file cannot be had, is not the pinned one, or does not run on a target.
        ScanError: The wheel that was made is none that we would take.
    """
    return tuple(_wheel(recipe, program, cache) for program in recipe.programs)


def materials(recipe: Recipe) -> list[Material]:
    """Return what those wheels are made of, for the provenance statement."""
    return [
        Material(uri=f"file:{PurePosixPath(path).name}", sha256=sha256, note=f"{program.name}: {program.origin}")
        for program in recipe.programs
        for path, sha256 in sorted(program.files.items())
    ]


def digest_of(program: str, wheels: Iterable[ChosenWheel], *, python: str, label: str) -> str:
    """Return the SHA-256 of an environment's file, looked up in the wheels that it is installed from.

    Args:
        program: Its path in the environment, such as ``bin/llama-server``.
        wheels: All wheels of the environment.
        python: The version of Python, which the folder of packages is named by.
        label: Names the model in errors.

    Raises:
        RecipeError: No wheel brings it, or pip would write it anew.
    """
    packages = f"lib/python{python}/site-packages/"
    for wheel in wheels:
        facts = wheelfile.read(wheel.file)
        member = next((each for each in facts.members if _place(facts, each, packages) == program), None)
        if member is None:
            continue
        with zipfile.ZipFile(wheel.file) as archive:
            content = archive.read(member)
        if content.startswith(_PYTHON):
            raise RecipeError(
                what=f"{label}.program: {program} is a script of Python's",
                why="installing writes its first line anew, so its digest is known at the site alone",
                fix="name the module that it runs: runtime.attached.module",
            )
        return sha256_hex(content)
    raise RecipeError(
        what=f"{label}.program: nothing brings {program}",
        why="no wheel of the engine's environment has it, and no [[programs]]",
        fix="name it in [[programs]], lock the wheel that has it, or name a module",
    )


def _place(facts: WheelFacts, member: str, packages: str) -> str:
    """Return where in an environment a member of a wheel is installed; empty for headers."""
    inside = facts.installed(member)
    if inside is not None:
        return f"{packages}{inside}"
    _, scheme, *parts = PurePosixPath(member).parts
    folder = {"data": "", "scripts": "bin/"}.get(scheme)
    return "" if folder is None else folder + "/".join(parts)


def _wheel(recipe: Recipe, program: ProgramSection, cache: Cache) -> ChosenWheel:
    files = {f"DATA/{path}": data for path, data in sorted(_read(recipe, program))}
    about = wheelmaking.About(
        distribution=program.distribution,
        version=program.version,
        platform=recipe.target.platform,
        summary=program.origin,
        license=program.license,
        terms=small_file(recipe.beside(program.license_path), program.license_path),
    )
    with cache.scratch() as scratch:
        made = wheelmaking.make(about, files, scratch)
        sha256 = file_sha256(made)
        kept = cache.add(made, sha256=sha256, name=made.name)
    return ChosenWheel(name=program.distribution, version=program.version, file=kept, sha256=sha256)


def _read(recipe: Recipe, program: ProgramSection) -> Iterator[tuple[str, bytes]]:
    """Yield each file's place in the environment and its bytes, those that were compared with the pin."""
    for path, sha256 in program.files.items():
        name = PurePosixPath(path).name
        try:
            data = (recipe.beside(program.path) / name).read_bytes()
        except OSError as error:
            raise SourceError(
                what=f"programs.{program.name}: {name} cannot be read",
                why=error.strerror or "",
                fix="it lies in the folder programs.path, beside the recipe",
            ) from error
        if (found := sha256_hex(data)) != sha256:
            raise SourceError(
                what=f"programs.{program.name}: {name} is not the file that was pinned",
                why=f"expected sha256 {sha256[:12]}, got {found[:12]}",
                fix="find out why it changed before pinning the new digest",
            )
        for machine in recipe.machines:
            _require_runs(program, name, data, machine)
        yield path, data


def _require_runs(program: ProgramSection, name: str, data: bytes, machine: Target) -> None:
    """Pass when a target can run a file: its machine and its glibc; what it asks of the processor is stated."""
    if not data.startswith(b"\x7fELF"):
        return
    said = int.from_bytes(data[18:20], "little")
    if not data.startswith(_ELF) or said != _MACHINES.get(machine.machine):
        raise SourceError(
            what=f"programs.{program.name}: {name} is for another kind of machine",
            why=f"{machine.profile} is {machine.machine}, the file says {said}",
            fix="take the build for the target",
        )
    newest = max((int(found) for found in _GLIBC.findall(data)), default=0)
    if newest > int(machine.glibc.partition(".")[2]):
        raise SourceError(
            what=f"programs.{program.name}: {name} needs a newer glibc than {machine.profile} has",
            why=f"2.{newest} instead of {machine.glibc}",
            fix="take a build for an older system, or one that is linked statically",
        )
