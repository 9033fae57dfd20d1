"""Folders of a Debian 12, made once from this machine's own mirror and kept outside the checkout."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bundler.cache import default_root


def debian(name: str, include: str, *, without: Sequence[str] = ()) -> Path:
    """Return the folder of a Debian 12, made now if there is none.

    Args:
        name: What it is kept as.
        include: The packages it has beyond the least, with commas between.
        without: Folders in it that are taken away.
    """
    place = default_root() / "box" / name
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: one that was cut may still have its /proc mounted, below which nothing is to be removed.
        partial = place.with_name(f"{name}.new-{os.getpid()}")
        command = ["debootstrap", "--variant=minbase", f"--include={include}", "bookworm", str(partial), mirror()]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for folder in without:
            shutil.rmtree(partial / folder)
        partial.rename(place)
    return place


def mirror() -> str:
    """Return the Debian mirror of this machine's own package sources."""
    folder = Path("/etc/apt")
    for path in (folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))):
        text = path.read_text() if path.is_file() else ""
        if found := re.search(r"^(?:URIs:|deb(?: \[[^\]]*\])?)\s+(\S+/debian)/?(?:\s|$)", text, re.MULTILINE):
            return found[1]
    message = "this machine has no Debian package source"
    raise LookupError(message)
