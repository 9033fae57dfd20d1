"""Metadata and files that are made to deceive: without end, of other lengths, with too few or too clever signatures.

The box has accepted release 3. What is signed by enough people here says what no honest sender would say: the verifier
takes nobody's word for what it can look at itself.
"""

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from media import layout
from media.canonical import dumps
from tests.support.medium import SimulatedMedium, throwaway_ceremony
from tests.support.receiving import Shelf
from tests.support.resigning import (
    BOTH,
    ROLES,
    Edit,
    box,
    file_name,
    judge,
    next_root,
    on_all,
    put,
    resign,
    signed_file,
    signed_of,
)

pytestmark = pytest.mark.interop

WEIGHTS = "data/models/tiny/tiny.gguf"
ENDLESS = 2**40


@pytest.fixture
def next_one(genuine: Shelf) -> SimulatedMedium:
    """Release 4, which the box would accept."""
    return genuine(serial=4)


# endless data


@pytest.mark.parametrize(
    "name",
    [
        *(layout.TIMESTAMP, layout.snapshot_name(4), layout.targets_name(4), layout.VOLUMES, layout.root_name(2)),
        *(layout.TAG_MANIFEST, layout.MANIFEST, layout.BAG_INFO, layout.BAGIT, "attest/sbom.dsse.json"),
        *("check/VERIFY.txt", "signature", WEIGHTS, "data/release.json"),
    ],
)
@pytest.mark.timeout(30)
def test_a_file_without_end_is_refused_after_what_it_may_have(
    genuine: Shelf, next_one: SimulatedMedium, name: str
) -> None:
    trust = box(genuine)
    path = next_one.signature("bob") if name == "signature" else next_one.volumes[0] / layout.RELEASE / name
    if not path.exists():
        path = next_one.path(name) if name != layout.root_name(2) else path
    with path.open("ab") as stream:
        stream.truncate(ENDLESS)

    assert judge(next_one, trust) in {10, 15, 16}


@pytest.mark.timeout(30)
def test_custody_without_end_stops_for_a_person(genuine: Shelf, next_one: SimulatedMedium) -> None:
    os.truncate(next(iter((next_one.volumes[0] / layout.CUSTODY).iterdir())), ENDLESS)

    assert judge(next_one, box(genuine)) == 26


# wrong lengths and hashes, said by enough people


def _length(signed: dict[str, Any]) -> None:
    signed["targets"][WEIGHTS]["length"] += 1


def _hash(signed: dict[str, Any]) -> None:
    signed["targets"][WEIGHTS]["hashes"]["sha256"] = "0" * 64


def _block(signed: dict[str, Any]) -> None:
    signed["targets"][WEIGHTS]["custom"]["blocks"] = ["0" * 64]


def _other_algorithm(signed: dict[str, Any]) -> None:
    signed["targets"][WEIGHTS]["hashes"] = {"md5": "0" * 32}


def _second_algorithm(signed: dict[str, Any]) -> None:
    signed["targets"][WEIGHTS]["hashes"]["md5"] = "0" * 32


def _endless(signed: dict[str, Any]) -> None:
    signed["targets"][WEIGHTS]["length"] = 2**53 - 1


def _gone(signed: dict[str, Any]) -> None:
    del signed["targets"][WEIGHTS]


def _more(signed: dict[str, Any]) -> None:
    signed["targets"]["data/more"] = signed["targets"][WEIGHTS]


def _outside(signed: dict[str, Any]) -> None:
    signed["targets"]["../../etc/passwd"] = signed["targets"].pop(WEIGHTS)


def _delegated(signed: dict[str, Any]) -> None:
    signed["delegations"] = {"keys": {}, "roles": []}


@pytest.mark.parametrize(
    "edit", [_length, _hash, _block, _other_algorithm, _second_algorithm, _endless, _gone, _more, _outside, _delegated]
)
def test_targets_that_do_not_fit_their_files_are_refused_even_from_enough_people(
    genuine: Shelf, next_one: SimulatedMedium, edit: Edit
) -> None:
    trust = box(genuine)
    resign(next_one, "targets", edit)
    next_one.reseal()

    assert judge(next_one, trust) in {10, 13, 14, 15, 16}


def test_bytes_that_nobody_signed_are_refused_under_a_list_that_fits_them(
    genuine: Shelf, next_one: SimulatedMedium
) -> None:
    trust = box(genuine)
    path = next_one.flip_bit(WEIGHTS)
    index = json.loads(next_one.path(layout.VOLUMES).read_bytes())
    for part in (part for volume in index["volumes"] for part in volume["parts"] if part["path"] == WEIGHTS):
        part["sha256"] = "0" * 64
    on_all(next_one, layout.VOLUMES, dumps(index))
    next_one.reseal()

    assert path.exists()
    assert judge(next_one, trust) in {10, 15}


# thresholds


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("signed_by", "use", "refusal"),
    [(("alice",), "", 21), (("carol",), "", 21), (("alice", "bob"), "root", 20), (("carol", "bob"), "", 0)],
    ids=["one", "another one", "root keys", "two others"],
)
def test_each_role_needs_enough_people_with_their_keys_for_it(
    genuine: Shelf, next_one: SimulatedMedium, role: str, signed_by: tuple[str, ...], use: str, refusal: int
) -> None:
    trust = box(genuine)
    resign(next_one, role, lambda _: None, signed_by=signed_by, use=use)
    next_one.reseal()

    assert judge(next_one, trust) == refusal


@pytest.mark.parametrize("role", ROLES)
def test_a_strangers_signature_beside_enough_good_ones_refuses_the_file(
    genuine: Shelf, next_one: SimulatedMedium, role: str
) -> None:
    trust, stranger = box(genuine), throwaway_ceremony("demo", "stranger")
    signed = signed_of(next_one, role)
    good = json.loads(signed_file(next_one.ceremony, signed, signed_by=BOTH, use="release"))
    bad = json.loads(signed_file(stranger, signed, signed_by=("bob",), use="release"))
    put(next_one, role, dumps({**good, "signatures": good["signatures"] + bad["signatures"]}), signed["version"])
    next_one.reseal()

    assert judge(next_one, trust) == 20


# tricks with key ids


def _upper(signatures: list[dict[str, Any]]) -> None:
    signatures[0]["keyid"] = signatures[0]["keyid"].upper()


def _swapped(signatures: list[dict[str, Any]]) -> None:
    signatures[0]["keyid"], signatures[1]["keyid"] = signatures[1]["keyid"], signatures[0]["keyid"]


def _one_as_two(signatures: list[dict[str, Any]]) -> None:
    signatures[1] = {**signatures[0], "keyid": signatures[1]["keyid"]}


def _one_twice(signatures: list[dict[str, Any]]) -> None:
    signatures[1] = signatures[0]


def _none_of_them(signatures: list[dict[str, Any]]) -> None:
    signatures.clear()


def _empty(signatures: list[dict[str, Any]]) -> None:
    signatures[0]["sig"] = ""


@pytest.mark.parametrize(
    ("role", "trick"),
    [
        *(("targets", trick) for trick in (_upper, _swapped, _one_as_two, _one_twice, _none_of_them, _empty)),
        *((role, _one_as_two) for role in ("timestamp", "snapshot")),
    ],
)
def test_signatures_under_other_key_ids_do_not_count(
    genuine: Shelf, next_one: SimulatedMedium, role: str, trick: Callable[[list[dict[str, Any]]], None]
) -> None:
    trust = box(genuine)
    file = json.loads(next_one.path(file_name(role, 4)).read_bytes())
    trick(file["signatures"])
    put(next_one, role, dumps(file), file["signed"]["version"])
    next_one.reseal()

    assert judge(next_one, trust) in {10, 20}


def _alias(signed: dict[str, Any]) -> None:
    keyid = signed["roles"]["root"]["keyids"][0]
    signed["keys"]["0" * 40] = signed["keys"][keyid]
    signed["roles"]["root"]["keyids"].append("0" * 40)


def _listed_twice(signed: dict[str, Any]) -> None:
    signed["roles"]["root"]["keyids"].append(signed["roles"]["root"]["keyids"][0])


def _another_key_under_a_known_id(signed: dict[str, Any]) -> None:
    one, two = signed["roles"]["root"]["keyids"][:2]
    signed["keys"][one]["keyval"] = signed["keys"][two]["keyval"]


def _nobodys_key(signed: dict[str, Any]) -> None:
    signed["roles"]["timestamp"]["keyids"].append("f" * 40)


def _one_role_with_fewer(signed: dict[str, Any]) -> None:
    signed["roles"]["timestamp"]["threshold"] = 1


def _nobody_needed(signed: dict[str, Any]) -> None:
    signed["roles"]["root"]["threshold"] = 0


def _root_key_for_releases(signed: dict[str, Any]) -> None:
    signed["roles"]["targets"]["keyids"].append(signed["roles"]["root"]["keyids"][0])


def _no_people(signed: dict[str, Any]) -> None:
    signed["x-sealift-people"] = []


def _inconsistent(signed: dict[str, Any]) -> None:
    signed["consistent_snapshot"] = False


def _expires(signed: dict[str, Any]) -> None:
    signed["expires"] = "2000-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "edit",
    [
        *(_alias, _listed_twice, _another_key_under_a_known_id, _nobodys_key, _one_role_with_fewer, _nobody_needed),
        *(_root_key_for_releases, _no_people, _inconsistent, _expires),
    ],
)
def test_a_root_that_plays_with_keys_is_refused_even_from_enough_people(
    genuine: Shelf, next_one: SimulatedMedium, edit: Edit
) -> None:
    trust = box(genuine)
    on_all(next_one, layout.root_name(2), next_root(next_one.ceremony, edit))
    next_one.reseal()

    assert judge(next_one, trust) == 10
