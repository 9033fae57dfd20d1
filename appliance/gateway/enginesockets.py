"""Where the engines of a version listen: `engine-production-DIGEST.sock`, and beside it those of further instances.

Further ones are `…-2.sock` to `…-9.sock`, `…-cpu.sock` for overflow and `…-standby.sock`; docs/operator/units.md.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FIRST: Final = "1"
_FURTHER: Final = re.compile(r"-([2-9]|cpu|standby)")


def engines_at(first: Path) -> Mapping[Path, str]:
    """Return the sockets of a version's engines, the first one foremost, whether it is there or not.

    Each has the word that tells it apart: `1`, `2` to `9`, `cpu` or `standby`.
    """
    found = {first: FIRST}
    for path in sorted(first.parent.glob(f"{first.stem}-*{first.suffix}")):
        word = _FURTHER.fullmatch(path.stem.removeprefix(first.stem))
        if word is not None:
            found[path] = word[1]
    return found
