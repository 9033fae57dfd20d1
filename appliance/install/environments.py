"""Builds a stored release's environments from its own wheels: no index, exact hashes, no dependency resolution.

Promises: a release's folder counts only when `installed.json` is there, written after every environment was checked;
building again what is whole changes nothing; another release's folder is never touched; a folder that is not what its
release lists is put back when building it anew fails.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.config import Places
from appliance.errors import InstallError, NoSpaceError
from appliance.install import carried, compiling, environment_check
from appliance.install.carried import Whole
from appliance.install.releases import InstalledRelease, InstalledReleases
from appliance.store.content import StoredRelease
from media import canonical
from media.digest import file_sha256, sha256_hex

HOST: Final = "host"
SERVER: Final = "server"
_WHEELS: Final = "data/wheels/"
_HOST_FILES: Final = {"data/host/ansible/": "ansible", "data/host/systemd/": "systemd", "data/debs/": "debs"}
_UMASK: Final = 0o022
_GROWTH: Final = 5
_PIP_SECONDS: Final = 1800
_OURS: Final = "sealift"
_PATH: Final = re.compile(r"(?<![\w.])/[^\s'\":]*/")
_PROOFS: Final = {
    SERVER: "import appliance.cli.main as main; main.build()",
    "engine-llama-cpp": "import llama_cpp, appliance.serve.launcher",
    "engine-attached": "import appliance.serve.launcher, appliance.serve.attached_process",
}

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """The installed release and whether anything was changed for it."""

    installed: InstalledRelease
    changed: bool


def build(stored: StoredRelease, places: Places, *, with_host: bool, progress: Progress) -> Built:
    """Build what the release lists, below its serial.

    Args:
        stored: The release.
        places: Where the appliance lives.
        with_host: Whether the environment of the host's own tools (Ansible) is built too.
        progress: Told one line for each step.

    Raises:
        InstallError: An environment could not be built, or is not what the release lists.
        NoSpaceError: The disk lacks room.
        StoreDamagedError: A file in the store is not what was signed.
    """
    releases = InstalledReleases(places)
    whole = carried.complete(stored, releases)
    stored = whole.stored
    requirements = _requirements(whole, with_host=with_host)
    wanted = InstalledRelease(
        serial=stored.serial,
        release=stored.release,
        environments={name: sha256_hex(content) for name, content in requirements.items()},
        host_files=host_files_digest(stored),
        base=whole.base,
    )
    folder = releases.folder(stored.serial)
    with releases.locked():
        if releases.load(stored.serial) == wanted and _is_whole(folder, requirements):
            return Built(installed=wanted, changed=_lay_anew(stored, folder))
        _require_space(stored, places)
        _require_not_running_from(folder)
        with _in_place_of(folder):
            lay_host_files(stored, folder)
            # On a box the playbook proves them, after it brought the libraries of the system that they need.
            _build_all(stored, folder, requirements, proves=not with_host, progress=progress)
            if with_host:
                os.sync()  # else the power may take files that the record counts as whole
            releases.write(wanted)
    return Built(installed=wanted, changed=True)


def proof_of(name: str) -> str:
    """Return the Python that shows, run in an environment of a release, that it loads what it is for."""
    return _PROOFS.get(name, "pass")


def site_packages(environment: Path) -> Path:
    """Return the folder of an environment's packages."""
    return environment / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


def lay_host_files(stored: StoredRelease, folder: Path) -> None:
    """Copy playbooks, units and packages below `folder`: copies, so that what the store holds keeps one name and owner.

    Raises:
        StoreDamagedError: A file in the store is not what was signed.
    """
    for path in sorted(stored.files):
        for prefix, name in _HOST_FILES.items():
            if path.startswith(prefix):
                place = folder / name / path.removeprefix(prefix)
                for parent in reversed(place.relative_to(folder).parents[:-1]):
                    (folder / parent).mkdir(exist_ok=True)
                    (folder / parent).chmod(0o755)
                shutil.copyfile(stored.verify(path), place)
                place.chmod(0o644)


def _lay_anew(stored: StoredRelease, folder: Path) -> bool:
    """Lay the host files of a release that is built already anew unless each is as it was signed; return whether.

    People approved what the signed ones change, and the playbook is run from here.
    """
    listed = {
        f"{name}/{path.removeprefix(prefix)}": stored.files[path].sha256
        for path in stored.files
        for prefix, name in _HOST_FILES.items()
        if path.startswith(prefix)
    }
    folders = [folder / name for name in _HOST_FILES.values()]
    there = [path for one in folders for path in one.rglob("*") if path.is_symlink() or not path.is_dir()]
    if not any(path.is_symlink() for path in there):
        found = {path.relative_to(folder).as_posix(): file_sha256(path) for path in there}
        if found == listed:
            return False
    for one in folders:
        shutil.rmtree(one, ignore_errors=True)
    lay_host_files(stored, folder)
    return True


def _requirements(whole: Whole, *, with_host: bool) -> dict[str, bytes]:
    stored, listed = whole.stored, whole.requirements
    names = [name for name in sorted(listed) if with_host or name != HOST]
    if SERVER not in names:
        raise InstallError(
            what=f"release {stored.release} brings no server",
            why="its list of environments lacks it, and no release below it has one",
            fix="install the release that it changes first, or ask the sender",
        )
    for name in names:
        if not name.replace("-", "").isalnum() or not name.isascii():
            raise InstallError(what="an environment has a strange name", why=ascii(name)[:60], fix="ask the sender")
    return {name: listed[name] for name in names}


def host_files_digest(stored: StoredRelease) -> str:
    """Return the digest of everything a release brings for the host: playbooks, units, packages."""
    listed = [[path, stored.files[path].sha256] for path in sorted(stored.files) if path.startswith(tuple(_HOST_FILES))]
    return sha256_hex(canonical.dumps(listed))


def _is_whole(folder: Path, requirements: dict[str, bytes]) -> bool:
    try:
        for name, content in requirements.items():
            environment_check.require_exact(
                site_packages(folder / name), environment_check.pins(content), environment=name
            )
    except InstallError:
        return False
    return True


def _require_not_running_from(folder: Path) -> None:
    if folder.exists() and Path(sys.prefix).resolve().is_relative_to(folder.resolve()):
        raise InstallError(
            what="the release in use is not what it lists, and this program runs from it",
            why="a program cannot build anew what it runs from",
            fix="run `sealift install` of the bootstrap, or of another release",
        )


@contextmanager
def _in_place_of(folder: Path) -> Iterator[None]:
    """Give an empty folder; what was there comes back when the block fails, and goes away when it does not."""
    before = folder.with_name(f".{folder.name}.before")
    shutil.rmtree(before, ignore_errors=True)
    if folder.exists():
        folder.rename(before)
    try:
        folder.mkdir()
        folder.chmod(0o755)
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if before.exists():
            before.rename(folder)
        raise
    shutil.rmtree(before, ignore_errors=True)


def _require_space(stored: StoredRelease, places: Places) -> None:
    wheels = sum(file.length for path, file in stored.files.items() if path.startswith(_WHEELS))
    needed, free = wheels * _GROWTH, shutil.disk_usage(places.releases).free
    if free < needed:
        raise NoSpaceError(
            what=f"there is no room to install release {stored.release}",
            why=f"{needed >> 20} MiB are needed, {free >> 20} MiB are free",
            fix="remove an old release, or give the appliance a larger disk",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tools:
    """What building needs: an interpreter that has pip, the wheels, a folder for temporary files; whether to prove."""

    pip: Path
    wheels: Path
    work: Path
    proves: bool

    def run(self, *command: str | Path, why: str, codes: Collection[int] = (0,)) -> str:
        """Run a program with nothing of the caller's environment and return what it printed; `codes` end it well."""
        try:
            done = subprocess.run(
                [str(part) for part in command],
                capture_output=True,
                check=False,
                cwd=self.work,
                env={
                    "PATH": "/usr/bin:/bin",
                    "LANG": "C.UTF-8",
                    "HOME": str(self.work),
                    "TMPDIR": str(self.work),
                    "PIP_CONFIG_FILE": os.devnull,
                },
                text=True,
                timeout=_PIP_SECONDS,
                umask=_UMASK,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _not_built(why, type(error).__name__) from error
        if done.returncode not in codes:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise _not_built(why, _PATH.sub("", lines[-1])[:300] if lines else f"exit {done.returncode}")
        return done.stdout


def _build_all(
    stored: StoredRelease, folder: Path, requirements: dict[str, bytes], *, proves: bool, progress: Progress
) -> None:
    with tempfile.TemporaryDirectory(prefix="sealift-") as scratch:
        work = Path(scratch)
        wheels = stored.export_tree(work, below=_WHEELS)
        if not wheels:
            raise _not_built(f"release {stored.release}", "it carries no wheels")
        tools = _Tools(pip=_interpreter_with_pip(work), wheels=wheels[0].parent, work=work, proves=proves)
        # Few and long jobs: a thread each, the work is done by the processes they wait for.
        with ThreadPoolExecutor(max_workers=len(requirements)) as pool:
            environments = {folder / name: content for name, content in requirements.items()}
            installs = [pool.submit(_install_one, each, content, tools) for each, content in environments.items()]
            for install in installs:
                install.result()
            packages = [site_packages(environment) for environment in environments]
            # A process of its own: it keeps every core busy for a while.
            tools.run(sys.executable, "-I", "-m", compiling.__name__, *packages, why="what the environments compile to")
            checks = {each: pool.submit(_check_one, each, content, tools) for each, content in environments.items()}
            for environment, check in checks.items():
                progress(f"environment {environment.name}: {check.result()} packages, all checked")


def _install_one(environment: Path, requirements: bytes, tools: _Tools) -> None:
    name = environment.name
    listed = tools.work / f"requirements-{name}.txt"
    listed.write_bytes(requirements)
    python = environment / "bin/python"
    why = f"the environment {name}"
    tools.run(sys.executable, "-I", "-m", "venv", "--without-pip", environment, why=why)
    pip = (tools.pip, "-I", "-m", "pip", "--isolated", "--disable-pip-version-check", "--python", python)
    exact = ("--no-index", "--find-links", tools.wheels, "--no-deps", "--require-hashes", "--only-binary=:all:")
    tools.run(*pip, "install", "--quiet", *exact, "--no-cache-dir", "--no-compile", "--requirement", listed, why=why)
    asked = tools.run(*pip, "check", why=why, codes=(0, 1))
    environment_check.require_whole(asked, environment_check.left_out(requirements), environment=name)


def _check_one(environment: Path, requirements: bytes, tools: _Tools) -> int:
    name = environment.name
    expected = environment_check.pins(requirements)
    environment_check.require_exact(site_packages(environment), expected, environment=name)
    if tools.proves and _OURS in expected:
        tools.run(environment / "bin/python", "-I", "-c", proof_of(name), why=f"the environment {name}")
    return len(expected)


def _interpreter_with_pip(work: Path) -> Path:
    """Return this interpreter when it has pip, else one of its kind that gets the pip Python itself brings."""
    if importlib.util.find_spec("pip") is not None:
        return Path(sys.executable)
    try:
        subprocess.run(
            [sys.executable, "-I", "-m", "venv", str(work / "pip")],
            capture_output=True,
            check=True,
            timeout=_PIP_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise _not_built("pip", "install python3-venv, which the release's packages bring") from error
    return work / "pip/bin/python"


def _not_built(what: str, why: str) -> InstallError:
    return InstallError(
        what=f"{what} could not be built", why=why, fix="nothing that runs was changed; correct it and run it again"
    )
