"""An archive laid out as llama-cpp-python's source is, small: the file that the patch changes has what it looks for."""

import gzip
import io
import tarfile
from importlib import resources
from pathlib import Path

from bundler.sources import llama_source

BELOW = f"llama_cpp_python-0.3.36/{llama_source.LLAMA_CPP}"
PATCHED = "ggml/src/ggml-cpu/repack.cpp"
ALL = ("CMakeLists.txt", "LICENSE", PATCHED)


def before(*, changed: str = "") -> bytes:
    """Return a file that the patch fits: the lines that it looks for, without one of them where it is named."""
    patch = (resources.files("bundler.sources") / "repack_x16.patch").read_text()
    hunks = patch.split("\n@@ ")[1:]
    lines = [line for hunk in hunks for line in hunk.splitlines()[1:] if not line.startswith("+")]
    return "".join(f"{line[1:]}\n" for line in lines if not changed or changed not in line).encode()


def archive(folder: Path, *, names: tuple[str, ...] = ALL, changed: str = "") -> Path:
    """Write the archive and return it.

    Args:
        folder: Where.
        names: The files of llama.cpp that it has.
        changed: What a line says that the file to be patched lacks.
    """
    made = folder / "llama_cpp_python-0.3.36.tar.gz"
    # Without the second in which it was packed, so that it is the same archive each time.
    with gzip.GzipFile(made, "wb", mtime=0) as packing, tarfile.open(fileobj=packing, mode="w") as writing:
        for name in names:
            content = before(changed=changed) if name == PATCHED else b"terms"
            member = tarfile.TarInfo(f"{BELOW}/{name}")
            member.size = len(content)
            writing.addfile(member, io.BytesIO(content))
    return made
