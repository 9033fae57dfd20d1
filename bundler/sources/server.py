"""Our own part of the payload: the wheel built from this checkout, the playbooks and the units, as they are in it.

The wheel is made by the locked build backend with the recipe's time, so two builds of one checkout are equal bytes.
Provenance names the commit and says when the checkout differs from it.
"""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bundler.artifact import Artifact, Component, Gathered, Material
from bundler.errors import BuildError, SourceError
from bundler.process import Progress, quiet, run
from bundler.sources.wheels import ChosenWheel
from bundler.toolchain import Toolchain
from bundler.wheelfile import parse_name
from bundler.wheelfile import read as read_wheel
from media.digest import file_sha256

DISTRIBUTION = "sealift"
HOST_FOLDERS = ("ansible", "systemd")
_HOST_IN_WHEEL = "appliance/_host"
_IGNORED = frozenset({"__pycache__"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A source tree of Sealift."""

    root: Path

    @classmethod
    def find(cls, given: Path | None = None) -> "Checkout":
        """Return the given checkout, or the one that this program runs from.

        Raises:
            SourceError: There is none: an installed bundler must be told where the source lies.
        """
        root = given or Path(__file__).resolve().parents[2]
        if not (root / "pyproject.toml").is_file() or not (root / "requirements" / "server.txt").is_file():
            raise SourceError(
                what="there is no source tree of Sealift here",
                why="the release carries a wheel built from it",
                fix="run from a checkout, or give --checkout",
            )
        return cls(root=root)

    def lock(self, name: str) -> Path:
        """Return the path of one requirements file."""
        return self.root / "requirements" / f"{name}.txt"

    def material(self) -> Material:
        """Return the commit, and whether the tree differs from it."""
        commit = self._git("rev-parse", "HEAD").strip()
        if not commit:
            return Material(uri="git+sealift", note="the source tree is not under version control")
        is_changed = bool(self._git("status", "--porcelain", "--untracked-files=normal").strip())
        note = "with changes that are not in this commit" if is_changed else ""
        return Material(uri="git+sealift", git_commit=commit, note=note)

    def _git(self, *arguments: str) -> str:
        try:
            told = subprocess.run(
                ["git", "-C", self.root, *arguments], capture_output=True, text=True, check=False, timeout=60
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return told.stdout if told.returncode == 0 else ""


def build_wheel(
    checkout: Checkout, toolchain: Toolchain, *, epoch: int, folder: Path, progress: Progress = quiet
) -> ChosenWheel:
    """Build our wheel into a folder.

    Raises:
        BuildError: The build failed, or the wheel lacks playbooks or units.
    """
    progress("building the sealift wheel from this checkout")
    run(
        [toolchain.python, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        what="the sealift wheel could not be built",
        fix="run it by hand: python -m hatchling build --target wheel",
        environment={**toolchain.variables(), "SOURCE_DATE_EPOCH": str(epoch)},
        folder=checkout.root,
    )
    file = next(folder.glob("*.whl"))
    named = parse_name(file.name)
    carried = set(read_wheel(file).members)
    for name in HOST_FOLDERS:
        for path in _tree(checkout.root / name):
            member = f"{_HOST_IN_WHEEL}/{name}/{path.relative_to(checkout.root / name).as_posix()}"
            if member not in carried:
                raise BuildError(
                    what="the sealift wheel is not complete", why=f"it lacks {member}", fix="correct pyproject.toml"
                )
    return ChosenWheel(name=named.name, version=named.version, file=file, sha256=file_sha256(file))


def host_files(checkout: Checkout) -> Gathered:
    """Return the playbooks and units of the checkout, file by file."""
    artifacts = [
        Artifact.of_file(
            path,
            target=f"data/host/{name}/{path.relative_to(checkout.root / name).as_posix()}",
            kind="host",
            component=Component(
                name=f"host/{name}/{path.relative_to(checkout.root / name).as_posix()}", license="Apache-2.0"
            ),
        )
        for name in HOST_FOLDERS
        for path in _tree(checkout.root / name)
    ]
    return Gathered(artifacts=tuple(artifacts))


def requirements_text(wheels: tuple[ChosenWheel, ...], left_out: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """Return the requirements file that installs exactly these wheels, by name, and says what they do without."""
    lines = [f"# left out: {name}: {reason}" for name, reason in sorted(left_out.items())]
    lines += [wheel.requirement for wheel in sorted(wheels, key=lambda wheel: wheel.name)]
    return "".join(f"{line}\n" for line in lines).encode()


def _tree(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and not any(part.startswith(".") or part in _IGNORED for part in path.relative_to(folder).parts)
        and path.suffix != ".pyc"
    )
