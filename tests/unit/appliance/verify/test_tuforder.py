"""What the signatures of a file cover is what python-tuf says; its order needs little room beside what was read."""

import json
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata

from appliance.verify.bag import UntrustedBag
from appliance.verify.medium import Medium
from appliance.verify.metadata import read_role
from appliance.verify.tuforder import ReleaseOrder
from media.errors import MalformedError
from media.layout import BLOCK_BYTES

VALID = Path(__file__).resolve().parents[3] / "corpus/v1/valid"
RELEASE = VALID / "medium-full/volume-1/release"
ROOT = (RELEASE / "metadata/1.root.json").read_bytes()
METADATA = sorted(
    path
    for medium in ("medium-full", "medium-delta")
    for path in (VALID / medium).rglob("metadata/*.json")
    if path.name != "volumes.json" and "custody" not in path.name
)


@pytest.mark.parametrize("path", METADATA, ids=lambda path: f"{path.parts[-5]}-{path.name}")
def test_signatures_cover_what_python_tuf_says(path: Path) -> None:
    raw = path.read_bytes()
    parsed = Metadata[Any].from_bytes(raw)

    read = read_role(raw, parsed.signed.type)

    assert read.covered() == parsed.signed_bytes
    assert dict(read.signatures) == parsed.signatures


def test_the_corpus_has_every_role() -> None:
    assert {path.name.rpartition(".json")[0].rpartition(".")[2] for path in METADATA} == {
        "root",
        "timestamp",
        "snapshot",
        "targets",
    }


def test_the_order_keeps_no_targets() -> None:
    names = ("timestamp", "2.snapshot", "2.targets")
    files = [json.loads((RELEASE / f"metadata/{name}.json").read_bytes()) for name in names]
    files[2]["signed"]["targets"] = {f"data/debs/package-{number:06}.deb": _entry(number) for number in range(2000)}
    roles = [read_role(json.dumps(each).encode(), each["signed"]["_type"]) for each in files]
    tracemalloc.start()

    order = ReleaseOrder(ROOT, roles)

    assert tracemalloc.get_traced_memory()[1] < 4 * len(roles[2].raw)  # python-tuf's own reading takes 20 times
    tracemalloc.stop()
    assert b"package-001999.deb" in order.covered["targets"]


@pytest.mark.parametrize(
    "entry", [{}, [], "text", {"length": 1, "hashes": {}}, {"length": -1, "hashes": {"sha256": "x"}}]
)
def test_a_target_that_python_tuf_cannot_read_is_malformed(entry: Any) -> None:
    value = json.loads((RELEASE / "metadata/2.targets.json").read_bytes())
    value["signed"]["targets"]["data/release.json"] = entry

    with pytest.raises(MalformedError):
        ReleaseOrder(ROOT, [read_role(json.dumps(value).encode(), "targets")])


def test_python_tufs_own_client_is_whole_for_whoever_asks_for_it() -> None:
    script = "import appliance.verify.metadata, sys, tuf; assert 'urllib3' not in sys.modules; "
    script += "import tuf.ngclient as whole; whole.Updater"

    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_a_large_small_file_is_kept_packed_and_comes_back_whole(tmp_path: Path) -> None:
    shutil.copytree(RELEASE, tmp_path / "release")
    content = bytes(range(256)) * 20_000
    (tmp_path / "release/attest").mkdir(exist_ok=True)
    (tmp_path / "release/attest/sbom.dsse.json").write_bytes(content)

    with Medium.open(tmp_path, label="volume") as opened:
        bag = UntrustedBag(opened)
        read = [bag.file("attest/sbom.dsse.json"), b"".join(bag.pieces("attest/sbom.dsse.json"))]
        read.append(bag.file("attest/sbom.dsse.json"))

        assert read == [content] * 3
        assert b"".join(bag.pieces("bagit.txt")) == bag.file("bagit.txt")


def _entry(number: int) -> dict[str, Any]:
    digest = f"{number:064x}"
    custom = {"block_size": BLOCK_BYTES, "blocks": [digest], "kind": "deb"}
    return {"custom": custom, "hashes": {"sha256": digest}, "length": number + 1}
