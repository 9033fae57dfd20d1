import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.verify.inspect import inspect
from appliance.verify.medium import Medium
from media import layout, limits
from media.canonical import dumps, loads
from media.dsse import Envelope
from media.errors import MissingFileError
from tests.support.candidate import bill_entry
from tests.support.medium import make_medium


def test_what_a_volume_claims_is_marked_untrusted(tmp_path: Path) -> None:
    made = make_medium(tmp_path / "m")
    made.add_litter()
    with Medium.open(made.volumes[0], label="volume folder 1") as medium:
        facts = inspect(medium)

    assert facts["untrusted_release"] == "demo-1"
    assert facts["untrusted_volume"] == "1 of 2"
    assert facts["untrusted_sites"] == ["demo-clinic"]
    assert "Thumbs.db" in facts["litter"]
    assert facts["problems"] == []
    assert facts["untrusted_bill_of_materials"].endswith("files and no other")
    assert set(facts) - {"volume", "litter", "problems"} == {name for name in facts if name.startswith("untrusted_")}


def test_what_does_not_read_is_a_problem_and_the_rest_is_shown(tmp_path: Path) -> None:
    made = make_medium(tmp_path / "m")
    made.replace("metadata/timestamp.json", b"{", volume=1)
    made.remove("bag-info.txt", volume=1)
    with Medium.open(made.volumes[0], label="volume folder 1") as medium:
        facts = inspect(medium)

    assert len(facts["problems"]) == 2
    assert facts["untrusted_volumes"] == 2


def test_files_that_claim_more_bytes_than_a_number_holds_are_a_problem_of_the_volume(tmp_path: Path) -> None:
    """A made file system says any length of a file that has no blocks."""
    made = make_medium(tmp_path / "m")
    for number in range(514):
        place = made.add(f"data/big/{number}", b"")
        os.truncate(place, 2**44 - 2**20)
    with Medium.open(made.volumes[0], label="volume folder 1") as medium:
        facts = inspect(medium)

    assert loads(dumps(facts))["untrusted_bytes"] == limits.INTEGER_MAX
    assert "more than any medium has" in facts["problems"][0]


def test_a_folder_that_is_no_volume_is_said_to_be_none(tmp_path: Path) -> None:
    with Medium.open(tmp_path, label="volume folder 1") as medium, pytest.raises(MissingFileError):
        inspect(medium)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda components: components.pop(0), "does not name"),
        (lambda components: components.append(bill_entry("data/more", "0" * 64)), "names data/more"),
    ],
)
def test_a_bill_of_materials_of_other_files_is_a_problem_both_ways(
    tmp_path: Path, change: Callable[[list[Any]], object], said: str
) -> None:
    made = make_medium(tmp_path / "m")
    name = layout.attestation_name("sbom")
    envelope = Envelope.from_bytes((made.volumes[0] / layout.RELEASE / name).read_bytes())
    statement = loads(envelope.payload)
    change(statement["predicate"]["components"])
    made.replace(name, replace(envelope, payload=dumps(statement)).to_bytes(), volume=1)

    with Medium.open(made.volumes[0], label="volume folder 1") as medium:
        facts = inspect(medium)

    assert "untrusted_bill_of_materials" not in facts
    assert [said in problem for problem in facts["problems"]] == [True]
