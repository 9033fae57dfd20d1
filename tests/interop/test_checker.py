"""The stand-alone checker against the world: published vectors, another language, and a root who rewrites the past."""

import base64
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PublicKey

from appliance.actions.auditing.making import Wanted, make
from appliance.audit import pin, tree
from appliance.audit.client import open_ledger
from appliance.audit.sqlite_backend import FILE_NAME
from media.clock import FixedClock, SystemClock, from_text
from tests.support.checker import CHECKER, check, loaded
from tests.support.ledger import LedgerSite, ledger_site
from tests.unit.appliance.audit import test_tree as own

pytestmark = pytest.mark.interop
VECTORS = Path(__file__).resolve().parents[1] / "vectors"


def wycheproof(name: str) -> list[tuple[int, bool, bytes, bytes, bytes]]:
    tests = json.loads((VECTORS / name).read_bytes())["tests"]
    return [(number, valid, *(base64.b64decode(each) for each in rest)) for number, valid, *rest in tests]


def test_the_checkers_ed25519_takes_and_refuses_what_wycheproof_says() -> None:
    checker = loaded()
    tests = wycheproof("wycheproof_ed25519.json")

    found = {number: checker.ed25519(key, data, signature) for number, _, key, data, signature in tests}

    assert len(tests) == 151
    assert found == {number: valid for number, valid, *_ in tests}


def test_the_checkers_ml_dsa_takes_and_refuses_what_wycheproof_says() -> None:
    checker = loaded()
    tests = wycheproof("wycheproof_mldsa_87.json")

    found = {number: checker.ml_dsa_87(key, data, signature) for number, _, key, data, signature in tests}

    assert found == {number: valid for number, valid, *_ in tests}
    assert set(found.values()) == {True, False}


def test_the_library_that_signs_agrees_with_the_same_vectors() -> None:
    for number, valid, key, data, signature in wycheproof("wycheproof_ed25519.json"):
        assert library(Ed25519PublicKey, key, data, signature) is valid, number
    for number, valid, key, data, signature in wycheproof("wycheproof_mldsa_87.json"):
        assert library(MLDSA87PublicKey, key, data, signature) is valid, number


def library(kind: type[Ed25519PublicKey] | type[MLDSA87PublicKey], key: bytes, data: bytes, signature: bytes) -> bool:
    try:
        kind.from_public_bytes(key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def test_a_second_language_makes_every_root_and_proof_of_the_frozen_vectors() -> None:
    command = ["perl", str(VECTORS / "merkle.pl"), str(VECTORS / "merkle.txt")]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "399 vectors, 0 wrong\n")


def test_the_second_language_sees_a_wrong_vector(tmp_path: Path) -> None:
    text = (VECTORS / "merkle.txt").read_text().replace("root 8 5dc9", "root 8 5dc8")
    (tmp_path / "wrong.txt").write_text(text)

    done = subprocess.run(
        ["perl", str(VECTORS / "merkle.pl"), str(tmp_path / "wrong.txt")], capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert "WRONG root 8" in done.stdout


def test_the_checker_takes_every_proof_between_all_trees_of_up_to_130_leaves() -> None:
    checker = loaded()
    _, read = own.built(own.LEAVES)
    roots = [tree.root(size, read) for size in range(own.LARGEST + 1)]

    for new in range(1, own.LARGEST + 1):
        for index in range(new):
            path = tree.inclusion(index, new, read)
            checker.require_included(own.LEAVES[index], index, new, path, roots[new])
        for old in range(1, new):
            steps = [one.hex() for one in tree.consistency(old, new, read)]
            whole = [roots[old].hex()] if old & (old - 1) == 0 else []
            assert checker.older_root({"size": old, "hashes": [*whole, *steps]}, new, roots[new]) == roots[old]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LedgerSite]:
    with ledger_site(tmp_path / "site") as made:
        with made.running():
            actions = made.door("ledger-actions")
            for number in range(20):
                actions.append("trust.rotated", {"version": number})
            (tmp_path / "printed.txt").write_text(actions.checkpoint())
            for number in range(20, 25):
                actions.append("trust.rotated", {"version": number})
            actions.close()
        yield made


def export(site: LedgerSite, folder: Path) -> str:
    with site.running():
        key = pin.read_pin(site.places)
        assert key is not None
        ledger = open_ledger(site.config, "ledger-actions")
        make(ledger, folder, Wanted(site="demo", key=key), clock=SystemClock())
        ledger.close()
    return key.to_text()


def rewrite(site: LedgerSite, version: int) -> None:
    """Do what root can: change a record, make the ledger anew from all records, and sign it with the box's own key."""
    path = site.places.ledger / FILE_NAME
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT kind, raw FROM leaf ORDER BY sequence").fetchall()
    connection.close()
    bodies = [(kind, json.loads(raw)) for kind, raw in rows]
    origin = bodies[0][1]["origin"]
    for name in ("", "-wal", "-shm"):
        path.with_name(FILE_NAME + name).unlink(missing_ok=True)
    with site.running() as log:
        # The same name as before, which the key on the box signs for.
        log.backend.close()
    path.unlink()
    _forge(site, origin, bodies, version)


def _forge(site: LedgerSite, origin: str, bodies: list[tuple[str, dict[str, object]]], version: int) -> None:
    from unittest import mock

    from appliance.audit.leaf import Via
    from appliance.audit.log import Entry, Log, Signer
    from appliance.audit.sqlite_backend import open_writer
    from appliance.keys.files import FileKeys

    keys = FileKeys(site.places.key_files)
    signer = Signer(public=keys.public("ledger-checkpoint"), sign=lambda data: keys.sign("ledger-checkpoint", data))
    backend = open_writer(site.places.ledger / FILE_NAME)
    # Root gives every record its old time, so that only what was changed differs.
    clock = FixedClock(from_text(str(bodies[0][1]["time"])))
    with mock.patch("appliance.audit.log._new_origin", return_value=origin):
        log = Log.open(backend, clock=clock, site="demo", signer=signer)
    for kind, leaf in bodies[1:]:
        clock.advance((from_text(str(leaf["time"])) - clock.now()).total_seconds())
        body = leaf["body"]
        assert isinstance(body, dict)
        changed = {"version": 999} if body == {"version": version} else body
        via = leaf["via"]
        assert isinstance(via, dict)
        log.append([Entry.of(kind, changed, via=Via(door=via["door"], uid=via["uid"]))])
    log.checkpoint()
    backend.close()


def test_what_root_rewrites_after_a_print_is_caught_and_what_no_print_covers_is_named(
    site: LedgerSite, tmp_path: Path
) -> None:
    key = export(site, tmp_path / "honest")
    assert check("ledger", "--key", key, "--printed", tmp_path / "printed.txt", tmp_path / "honest").returncode == 0

    rewrite(site, 5)
    assert export(site, tmp_path / "rewritten") == key
    caught = check("ledger", "--key", key, "--printed", tmp_path / "printed.txt", tmp_path / "rewritten")
    unseen = check("ledger", "--key", key, tmp_path / "rewritten")

    assert caught.returncode == 91
    assert "INCONSISTENT" in caught.stderr
    assert unseen.returncode == 0
    assert "NOT COVERED   no checkpoint from outside was given" in unseen.stdout


def test_what_root_rewrites_that_is_newer_than_the_print_is_named_as_not_covered(
    site: LedgerSite, tmp_path: Path
) -> None:
    rewrite(site, 22)
    key = export(site, tmp_path / "rewritten")

    done = check("ledger", "--key", key, "--printed", tmp_path / "printed.txt", tmp_path / "rewritten")

    assert done.returncode == 0
    assert "NOT COVERED   records 23 to" in done.stdout


def test_a_ledger_that_was_cut_back_is_caught(site: LedgerSite, tmp_path: Path) -> None:
    with site.running():
        actions = site.door("ledger-actions")
        actions.append_many([("trust.rotated", {"version": number}) for number in range(100, 140)])
        (tmp_path / "later.txt").write_text(actions.checkpoint())
        actions.close()
    rewrite_to = site.places.ledger / FILE_NAME
    connection = sqlite3.connect(rewrite_to)
    rows = connection.execute("SELECT kind, raw FROM leaf ORDER BY sequence").fetchall()[:25]
    connection.close()
    bodies = [(kind, json.loads(raw)) for kind, raw in rows]
    rewrite_to.unlink()
    _forge(site, bodies[0][1]["origin"], bodies, -1)
    key = export(site, tmp_path / "cut")

    done = check("ledger", "--key", key, "--printed", tmp_path / "later.txt", tmp_path / "cut")

    assert done.returncode == 91
    assert "cut back" in done.stderr


def test_the_checker_runs_from_anywhere_and_loads_nothing_of_ours(site: LedgerSite, tmp_path: Path) -> None:
    key = export(site, tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    copy = shutil.copy(CHECKER, tmp_path / "elsewhere" / "verify.py")

    done = subprocess.run(
        ["python3", "-I", "-S", copy, "ledger", "--key", key, str(tmp_path / "out")],
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )

    assert done.returncode == 0, done.stderr
    assert "second        1 checkpoints" not in done.stdout or "HOLDS" in done.stdout
