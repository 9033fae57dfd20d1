"""llama-cpp-python's source: fetched by its hash, unpacked, and what of llama.cpp is changed before it is built.

Two things are, and both decide the wheel's bytes and are in its provenance (`changes`): a header before each file puts
a fault of the compiler right (ADR 67), and a patch lays weights out for processors without AMX (ADR 77). A source that
the patch does not fit in every line is not built.
"""

import hashlib
import shlex
import tarfile
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Final

from bundler.cache import Cache
from bundler.errors import SourceError
from bundler.process import run
from bundler.sources.wheels import Locked
from bundler.toolchain import Toolchain

PACKAGE: Final = "llama-cpp-python"
LLAMA_CPP: Final = "vendor/llama.cpp"
"""Where llama.cpp lies in the unpacked archive."""
_BEFORE_EACH: Final = "amx_tiles.h"
_PATCH: Final = "repack_x16.patch"
_ADDED: Final = "repack_x16.h"
_BESIDE: Final = "ggml/src/ggml-cpu"


def changes() -> dict[str, str]:
    """Return the digests of what is changed, by what each is, for the facts that decide a wheel."""
    return {"header": _digest(_BEFORE_EACH), "patch": _digest(_PATCH, _ADDED)}


def header(folder: Path) -> Path:
    """Write what is included before each file of llama.cpp and return it."""
    written = folder / _BEFORE_EACH
    written.write_bytes(_own(_BEFORE_EACH))
    return written


def unnamed(source: Path) -> str:
    """Return the compiler's flag by which files of the source are named as seen from it: no folder of this machine."""
    return shlex.quote(f"-ffile-prefix-map={source}=.")


def source_of(package: Locked, cache: Cache, toolchain: Toolchain, scratch: Path) -> Path:
    """Return the locked source archive, from the cache or downloaded.

    Raises:
        SourceError: It cannot be had, or is not the locked one.
    """
    wanted = min(package.hashes)
    if found := cache.find(wanted):
        return found
    listed = scratch / "requirements.txt"
    listed.write_text(f"{package.name}=={package.version} --hash=sha256:{wanted}\n")
    downloads = scratch / "source"
    toolchain.pip(
        "download", "--quiet", "--no-deps", "--no-build-isolation", "--require-hashes", f"--no-binary={PACKAGE}",
        "-r", listed, "-d", downloads,
        what=f"the source of {PACKAGE} could not be downloaded",
        fix="check the connection to the package index",
        error=SourceError,
    )  # fmt: skip
    file = next(downloads.iterdir())
    return cache.add(file, sha256=wanted, name=file.name)


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack the source archive and return the folder of the package's source, with llama.cpp below it.

    Raises:
        SourceError: It cannot be unpacked, or is not laid out as expected.
    """
    try:
        with tarfile.open(archive) as opened:
            _extract(opened, folder)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise SourceError(
            what=f"the source of {PACKAGE} cannot be unpacked", why=type(error).__name__, fix="fetch it again"
        ) from error
    source = next(folder.iterdir(), folder)
    if not all((source / LLAMA_CPP / name).is_file() for name in ("CMakeLists.txt", "LICENSE")):
        raise SourceError(
            what=f"the source of {PACKAGE} is not laid out as expected",
            why=f"it has no {LLAMA_CPP} with CMakeLists.txt and LICENSE",
            fix="use a release of Sealift that knows this version",
        )
    return source


def _extract(opened: tarfile.TarFile, folder: Path) -> None:
    """Extract files and folders that lie within a folder.

    Raises:
        tarfile.TarError: A member is a link, is no file, or lies elsewhere.
    """
    # Python has a filter for it since 3.11.4, and Debian 12's own Python is 3.11.2.
    if hasattr(tarfile, "data_filter"):
        opened.extractall(folder, filter="data")
        return
    members = opened.getmembers()
    for member in members:
        place = PurePosixPath(member.name)
        if not (member.isreg() or member.isdir()) or place.is_absolute() or ".." in place.parts:
            raise tarfile.TarError
    opened.extractall(folder, members)  # noqa: S202 - looked at above


def change(source: Path) -> None:
    """Apply the patch to an unpacked source, all of it or nothing, and lay what it includes beside it.

    Raises:
        BuildError: It does not fit in every line, or there is no `patch`.
    """
    llama = source / LLAMA_CPP
    written = source / _PATCH
    written.write_bytes(_own(_PATCH))
    try:
        for only_look in (("--dry-run",), ()):
            run(
                ["patch", *only_look, "--strip=1", "--fuzz=0", "--forward", "--batch", f"--input={written.resolve()}"],
                what=f"the source of {PACKAGE} cannot be changed for processors without AMX",
                fix="apt-get install patch; where it is there, use a release of Sealift that knows this version",
                folder=llama,
            )
    finally:
        written.unlink()
    (llama / _BESIDE / _ADDED).write_bytes(_own(_ADDED))


def _own(name: str) -> bytes:
    return resources.files(__package__).joinpath(name).read_bytes()


def _digest(*names: str) -> str:
    return hashlib.sha256(b"\0".join(_own(name) for name in names)).hexdigest()[:16]
