"""What llama.cpp's library for GPUs is built with, and a card to run it on where there is none.

Debian 12's headers of Vulkan are too old, so Debian 13's are taken from this machine's own mirror, kept in the cache,
and laid beside this machine's compiler of shaders, as the Vulkan SDK lays them. The card is Mesa's driver for
processors.
"""

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Final

from bundler.cache import default_root
from tests.box.debian import mirror

PACKAGES: Final = ("glslc", "libvulkan-dev", "mesa-vulkan-drivers")
"""Of Debian 12; what the shard needs of the machine."""
_HEADERS: Final = ("libvulkan-dev", "spirv-headers")
_SUITE: Final = "trixie"
_DRIVERS: Final = Path("/usr/share/vulkan/icd.d")
VISIBLE: Final = {"GGML_VK_VISIBLE_DEVICES": "0"}
"""Without it llama.cpp takes no processor for a card."""


def missing() -> str:
    """Return what this machine lacks, in words; nothing where it has all."""
    lacks = [] if shutil.which("glslc") else ["glslc"]
    try:
        ctypes.CDLL("libvulkan.so.1")
    except OSError:
        lacks.append("libvulkan.so.1")
    if not any(_DRIVERS.glob("lvp_icd*")):
        lacks.append("Mesa's driver for processors")
    return f"needs {', '.join(lacks)}: apt-get install {' '.join(PACKAGES)}" if lacks else ""


def sdk() -> Path:
    """Return a folder for `VULKAN_SDK`, made on first use."""
    place = default_root() / "tools" / f"vulkan-{_SUITE}"
    if not (place / "include/vulkan/vulkan_core.h").exists():
        partial = place.with_name(f"{place.name}.new")
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "bin").mkdir(parents=True)
        _unpack(partial / "apt", partial)
        shutil.rmtree(partial / "apt")
        (partial / "bin/glslc").symlink_to(shutil.which("glslc") or "/usr/bin/glslc")
        (partial / "lib").mkdir()
        (partial / "lib/libvulkan.so").symlink_to("/usr/lib/x86_64-linux-gnu/libvulkan.so.1")
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
    return place


def _unpack(own: Path, into: Path) -> None:
    """Fetch the packages by apt, which proves their archive's signature, with folders of its own."""
    for folder in ("none", "lists/partial", "cache/archives/partial", "debs"):
        (own / folder).mkdir(parents=True)
    (own / "status").touch()
    (own / "own.sources").write_text(
        f"Types: deb\nURIs: {mirror()}\nSuites: {_SUITE}\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )
    places = {
        "Dir::Etc::sourceparts": own / "none",
        "Dir::Etc::sourcelist": own / "own.sources",
        "Dir::State::lists": own / "lists",
        "Dir::State::status": own / "status",
        "Dir::Cache": own / "cache",
        "APT::Sandbox::User": "root",
    }
    options = [word for name, value in places.items() for word in ("-o", f"{name}={value}")]
    subprocess.run(["apt-get", "-qq", *options, "update"], check=True)
    subprocess.run(["apt-get", "-qq", *options, "download", *_HEADERS], check=True, cwd=own / "debs")
    for package in sorted((own / "debs").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(own / "root")], check=True)
    (own / "root/usr/include").rename(into / "include")
    (own / "root/usr/share").rename(into / "share")
