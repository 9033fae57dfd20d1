"""This checkout's engine wheel, lent to the release of before where the cache has none of that release's own.

It is the same version of llama-cpp-python from the same locked source with other patches, and eight minutes of a quick
machine or more than twenty of a slow one to compile. What boxes of before are made for is what Sealift's own code left
on them. SEALIFT_DEEP=1 lends none; `make test-deep SHARD=build` in that release's source makes its own.
"""

import os
import subprocess
from pathlib import Path

from bundler.cache import default_root
from bundler.sources.llama_wheel import PACKAGE

# Run by the release of before, since it alone knows what decides its wheel's bytes and where it looks for one. It says
# whether it would have to compile: no wheel of its own, and none of the same source to take.
_LENDING = """
import json, shutil, sys, tempfile
from pathlib import Path
from bundler.cache import Cache
from bundler.sources import llama_wheel, wheels
parse = lambda name: wheels.parse_lock(Path("requirements", name).read_text(), label=name)
package = next(each for each in parse("engine-llama-cpp.txt") if each.name == llama_wheel.PACKAGE)
tools = {each.name: each.version for each in parse("build.txt")}
facts = llama_wheel.facts_of_build(package, tool_versions=tools)
cache = Cache(root=Path(sys.argv[1]))
folder = llama_wheel.place(cache, facts)
if llama_wheel.kept(folder, facts):
    print("its own")
    sys.exit()
for built in sorted(cache.root.glob("llama-cpp-python/*/built.json")):
    memo = json.loads(built.read_text())
    if memo["facts"].get("source_sha256") == facts["source_sha256"]:
        with tempfile.TemporaryDirectory(dir=cache.root / "llama-cpp-python") as scratch:
            llama_wheel.keep(Path(shutil.copy(built.with_name(memo["wheel"]), scratch)), folder, facts)
        print("lent")
        sys.exit()
print("none")
"""


def cache_with_wheel(source: Path, folder: Path) -> tuple[Path, str]:
    """Return a cache for the release of before to build with, and whose wheel is in it: "its own", "lent" or "none".

    All but the wheels is the cache of this machine. A lent one stays in `folder`, or other builds would take it for one
    of that release's source.

    Args:
        source: The unpacked release of before, with its environment.
        folder: A new folder.
    """
    root = default_root()
    if os.environ.get("SEALIFT_DEEP") == "1":
        return root, "its own"
    (folder / PACKAGE).mkdir(parents=True)
    for known in root.iterdir():
        if known.name != PACKAGE:
            (folder / known.name).symlink_to(known)
    for wheel in (root / PACKAGE).iterdir() if (root / PACKAGE).is_dir() else ():
        (folder / PACKAGE / wheel.name).symlink_to(wheel)
    said = subprocess.run(
        [source / ".venv/bin/python", "-c", _LENDING, folder], cwd=source, capture_output=True, check=True, text=True
    )
    return (root, "none") if said.stdout == "none\n" else (folder, said.stdout.strip())
