"""What another interpreter finds."""

import subprocess
from pathlib import Path
from typing import Final

_WHERE: Final = """
import sys
from importlib.util import find_spec
print(next(iter(find_spec(sys.argv[1]).submodule_search_locations)))
"""


def packages_with(python: Path, package: str) -> Path:
    """Return the folder of packages in which an interpreter finds one; it is not imported."""
    told = subprocess.run([python, "-I", "-c", _WHERE, package], capture_output=True, text=True, check=True)
    return Path(told.stdout.strip()).parent
