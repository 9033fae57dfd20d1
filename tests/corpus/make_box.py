"""Freezes what a box left, for the tests of later versions; `tests.box.frozen` lets one leave it.

No file of keys, no password and nothing that a caller asked is taken along. Where it runs in the version's own checkout
the keys that its site files may have are listed.
"""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from appliance.config import Config
from media.digest import sha256_hex

_SAMPLES: Final = "var/lib/sealift/review/review.db"
KEPT: Final = (
    *("etc/sealift/sealift.toml", "etc/sealift/ledger.pub", "etc/sealift/release.conf", "etc/sealift/trust/*.json"),
    *("var/lib/sealift/ledger/ledger.db", "var/lib/sealift/ledger/ledger.lock", "var/lib/sealift/registry/state.db"),
    *("var/lib/sealift/registry/evidence/*.json", "var/lib/sealift/registry/reviews/*.json"),
    *("var/lib/sealift/promoter/people.json", "var/lib/sealift/promoter/promotions/*.json"),
    *("var/lib/sealift/promoter/requests/*.json", "var/lib/sealift/trust/*.json", "var/lib/sealift/clock/*.json"),
    *("root/receipt-*.dsse.json", "root/proof.json", _SAMPLES),
)
SITE_FILE_KEYS: Final = "site-file-keys.json"
LISTED: Final = "SHA256SUMS"


def site_file_keys() -> set[str]:
    """Return each key that a site file of this checkout may have, with the tables around it."""
    schema = Config.model_json_schema()
    found: set[str] = set()

    def walk(node: dict[str, Any], path: str, above: frozenset[str]) -> None:
        if "$ref" in node:
            name = node["$ref"].rpartition("/")[2]
            if name not in above:
                walk(schema["$defs"][name], path, above | {name})
        for one in (each for word in ("anyOf", "allOf", "oneOf") for each in node.get(word, [])):
            walk(one, path, above)
        if isinstance(node.get("items"), dict):
            walk(node["items"], f"{path}[]", above)
        if isinstance(node.get("additionalProperties"), dict):
            walk(node["additionalProperties"], f"{path}.*", above)
        for name, one in node.get("properties", {}).items():
            place = f"{path}.{name}" if path else name
            found.add(place)
            walk(one, place, above)

    walk(schema, "", frozenset())
    return found


def listing(folder: Path) -> dict[str, str]:
    """Return the digest of each file below a folder but of the list itself, by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != LISTED)
    return {str(path.relative_to(folder)): sha256_hex(path.read_bytes()) for path in files}


def freeze(root: Path, folder: Path) -> None:
    """Freeze a box that is turned off.

    Args:
        root: Of its file system.
        folder: A new one below tests/corpus/box, named by the version.

    Raises:
        SystemExit: It lacks what is kept, was not turned off in order, or holds what callers asked.
    """
    found = {pattern: sorted(root.glob(pattern)) for pattern in KEPT}
    if missing := [pattern for pattern, paths in found.items() if not paths]:
        raise SystemExit(f"error: this box has no {', '.join(missing)}")
    if left := [path.name for path in root.glob("var/lib/sealift/*/*.db-wal") if path.stat().st_size]:
        raise SystemExit(f"error: {', '.join(left)} is not written back: the box was not turned off in order")
    with closing(sqlite3.connect(f"file:{root / _SAMPLES}?mode=ro", uri=True)) as samples:
        if samples.execute("SELECT count(*) FROM sample").fetchone() != (0,):
            raise SystemExit("error: this box keeps samples of what callers asked")
    folder.mkdir(parents=True)
    for path in sorted(path for paths in found.values() for path in paths):
        place = folder / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    (folder / SITE_FILE_KEYS).write_text(json.dumps(sorted(site_file_keys()), indent=1) + "\n")
    (folder / LISTED).write_text("".join(f"{digest}  {name}\n" for name, digest in listing(folder).items()))
