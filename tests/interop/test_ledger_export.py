"""An auditor checks the export with tools of others: SHA-256 from the standard library, OpenSSL for the signature."""

import base64
import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from appliance.actions.auditing.making import Wanted, make
from appliance.audit.client import open_ledger
from media.clock import SystemClock
from tests.support.ledger import bodies, ledger_site

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of a ledger with a few hundred leaves; below, nothing of ours is used."""
    base = tmp_path_factory.mktemp("export")
    with ledger_site(base) as site:
        with site.running() as log:
            key = log.vkey
            actions = site.door("ledger-actions")
            actions.append_many([("trust.rotated", {"version": n, "name": "Zürich"}) for n in range(300)])
            actions.append("release.received", bodies()["release.received"])
            actions.close()
        # Nobody runs here who could record the export or sign it a second time.
        wanted = Wanted(site="demo", key=key, recorded=False)
        make(open_ledger(site.config, "ledger-actions"), base / "handed-over", wanted, clock=SystemClock())
    return base / "handed-over"


def naive_root(hashes: list[bytes]) -> bytes:
    if len(hashes) == 1:
        return hashes[0]
    half = 1
    while half * 2 < len(hashes):
        half *= 2
    return hashlib.sha256(b"\x01" + naive_root(hashes[:half]) + naive_root(hashes[half:])).digest()


def leaf_hashes(folder: Path) -> list[bytes]:
    lines = (folder / "leaves.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b""
    return [hashlib.sha256(b"\x00" + line).digest() for line in lines]


def test_the_lines_hash_to_the_root_in_the_checkpoint(folder: Path) -> None:
    origin, size, root, *_ = (folder / "checkpoint.txt").read_text().split("\n")
    hashes = leaf_hashes(folder)

    assert int(size) == len(hashes)
    assert base64.b64decode(root) == naive_root(hashes)
    assert json.loads((folder / "leaves.jsonl").read_bytes().splitlines()[0])["origin"] == origin


def test_openssl_verifies_the_signature_with_the_key_beside_it(folder: Path, tmp_path: Path) -> None:
    text, _, signature = (folder / "checkpoint.txt").read_text().partition("\n\n")
    name, key_id, encoded = (folder / "ledger.pub").read_text().strip().split("+", 2)
    raw = base64.b64decode(encoded)
    # An Ed25519 key as X.509 SubjectPublicKeyInfo: a fixed prefix and 32 bytes (RFC 8410).
    (tmp_path / "key.der").write_bytes(bytes.fromhex("302a300506032b6570032100") + raw[1:])
    dash, signer, blob = signature.strip().split(" ")
    (tmp_path / "signature").write_bytes(base64.b64decode(blob)[4:])
    (tmp_path / "text").write_bytes(f"{text}\n".encode())

    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "key.der", "-rawin"]
    done = subprocess.run(
        [*command, "-in", "text", "-sigfile", "signature"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert (dash, signer) == ("—", name)
    assert raw[0] == 1
    assert base64.b64decode(blob)[:4].hex() == key_id
    assert hashlib.sha256(name.encode() + b"\n" + raw).hexdigest()[:8] == key_id


def test_the_facts_beside_the_leaves_are_those_of_the_leaves(folder: Path) -> None:
    facts = json.loads((folder / "export.json").read_bytes())
    assert facts["format"] == 2
    assert facts["root"] == naive_root(leaf_hashes(folder)).hex()
    assert facts["files"] == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "export.json"
    }


def test_every_line_is_plain_json_with_rising_sequences(folder: Path) -> None:
    leaves = [json.loads(line) for line in (folder / "leaves.jsonl").read_text().splitlines()]

    assert [leaf["sequence"] for leaf in leaves] == list(range(len(leaves)))
    assert all(
        json.dumps(leaf, sort_keys=True, separators=(",", ":"), ensure_ascii=False) == line
        for leaf, line in zip(leaves, (folder / "leaves.jsonl").read_text().splitlines(), strict=True)
    )
