"""What something is made from: one digest over files of the checkout, so that it is used again or made anew."""

import hashlib
import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


def last_version() -> Path:
    """Return the source of the version before, as its tag has it (docs/releasing.md); that source itself has none."""
    (kept,) = (ROOT / "tests/corpus/releases").glob("sealift-*.tar.xz")
    return kept


def digest_of(*names: str, more: bytes = b"") -> str:
    """Return 16 characters over the files below these names, those that git ignores left out.

    Args:
        names: Files and folders of the checkout.
        more: What else it is made from.
    """
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *names],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    summed = hashlib.sha256(more)
    for name in sorted(filter(None, listed.split("\0"))):
        path = ROOT / name
        if path.is_file():
            summed.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return summed.hexdigest()[:16]
