"""Everything a statement names is checked before a person is asked, and what is signed is what was shown."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from appliance.actions.approve import ApproveFacts, Question, approve
from appliance.actions.production import Surroundings
from appliance.actions.promote import promote
from appliance.actions.ways import ByOpenPGP, ByPassword, Way
from appliance.errors import ApprovalRefusedError, ProofError, UnknownPersonError
from appliance.modelaliases import ModelsSection
from appliance.promote.doubted import DOUBTED
from appliance.registry import evidence
from appliance.registry.descriptor import ModelDescriptor
from media import canonical, gpgagent, signers
from media.errors import KeyUnusableError
from tests.support.floor import Floor, open_floor
from tests.support.promotion import PASSWORD

pytestmark = pytest.mark.slow  # whole sites and real gpg, a second each


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="slf", dir="/tmp") as folder:
        made = Path(folder) / "g"
        yield made
        gpgagent.stop_agents(made)


@pytest.fixture(scope="module")
def people(home: Path) -> dict[str, bytes]:
    names = ("Eva Rossi", "Finn Olsen")
    keys = [signers.generate_key(home, name, "x@site.example") for name in names]
    return {name: signers.export_minimal(home, key) for name, key in zip(names, keys, strict=True)}


@pytest.fixture
def floor(people: dict[str, bytes]) -> Iterator[Floor]:
    with open_floor(enrolled=0) as opened:
        for code, (name, certificate) in zip(opened.site.client.codes(2), people.items(), strict=True):
            opened.site.client.enrol(code=code, name=name, certificate=certificate, password=PASSWORD)
        yield opened


@pytest.fixture
def version(floor: Floor) -> ModelDescriptor:
    descriptor = floor.bring()
    floor.validate(descriptor)
    promote(floor.here, descriptor.model_digest, person="eva-rossi")
    return descriptor


def yes(
    here: Surroundings, digest: str, person: str, home: Path, *, agrees: Callable[[Question], bool]
) -> ApproveFacts:
    return approve(here, digest, person=person, way=ByOpenPGP(home=home), agrees=agrees)


def not_asked(*_: object) -> NoReturn:
    pytest.fail("asked")


BY_PASSWORD = ByPassword(password=not_asked, totp=not_asked)


def test_two_people_approve_with_their_own_keys(floor: Floor, version: ModelDescriptor, home: Path) -> None:
    for person in ("eva-rossi", "finn-olsen"):
        facts = yes(floor.here, version.model_digest, person, home, agrees=lambda _: True)

    assert facts.to_json()["approved_by"] == ["Eva Rossi", "Finn Olsen"]
    promote(floor.here, version.model_digest, person="")
    assert floor.in_production() == version.model_digest


def test_what_is_shown_names_version_gates_and_changes(floor: Floor, version: ModelDescriptor, home: Path) -> None:
    shown: list[str] = []

    def agrees(question: Question) -> bool:
        shown.append(question.to_text())
        return True

    yes(floor.here, version.model_digest, "eva-rossi", home, agrees=agrees)

    for text in (
        version.model_digest,
        "✓ task-evaluation",
        "Production  nothing",
        "quantization: - -> Q4_1",
        "by nobody yet",
    ):
        assert text in shown[0]


def test_who_approves_reads_that_the_sites_own_name_for_a_model_is_this_ones(
    floor: Floor, version: ModelDescriptor, home: Path
) -> None:
    shown: list[str] = []

    def agrees(question: Question) -> bool:
        shown.append(question.to_text())
        return True

    models = ModelsSection(aliases={version.name: "production"})
    here = replace(floor.here, config=floor.here.config.model_copy(update={"models": models}))
    yes(here, version.model_digest, "eva-rossi", home, agrees=agrees)
    yes(floor.here, version.model_digest, "finn-olsen", home, agrees=agrees)

    assert f"  ! {models.taken_by(version.name)}\n" in shown[0]
    assert "models.aliases" not in shown[1]


def test_a_version_in_doubt_is_shown_to_nobody(floor: Floor, version: ModelDescriptor, home: Path) -> None:
    floor.site.ledger.append(DOUBTED, {"model_digests": [version.model_digest]})

    with pytest.raises(ApprovalRefusedError, match="came with a release in doubt"):
        yes(floor.here, version.model_digest, "eva-rossi", home, agrees=not_asked)


def test_gates_that_another_box_ran_are_not_shown_as_this_ones(
    floor: Floor, version: ModelDescriptor, home: Path
) -> None:
    shown: list[str] = []

    def agrees(question: Question) -> bool:
        shown.append(question.to_text())
        return True

    yes(floor.here, version.model_digest, "eva-rossi", home, agrees=agrees)
    assert "\nGates\n" in shown[0]
    (result,) = floor.site.ledger.find(kind="gate.result", field="model_digest", value=version.model_digest, limit=1)
    carried = {"origin": "sealift.example/trials/1", "sequence": 7, "leaf_hash": "0" * 64}
    floor.site.ledger.append("gate.result", {**result.body, "carried": carried})

    yes(floor.here, version.model_digest, "finn-olsen", home, agrees=agrees)

    assert "\nGates, run on another box (sealift.example/trials/1)\n" in shown[1]


def test_beside_other_models_it_is_not_said_that_nothing_is_in_production(
    floor: Floor, version: ModelDescriptor, home: Path
) -> None:
    shown: list[str] = []

    def agrees(question: Question) -> bool:
        shown.append(replace(question, goes="comes beside what is in production: chat 1 stays").to_text())
        return True

    yes(floor.here, version.model_digest, "eva-rossi", home, agrees=agrees)

    lines = shown[0].splitlines()
    now = lines.index("Production  nothing of this name")
    assert lines[now + 1].strip() == f"{version.name} comes beside what is in production: chat 1 stays"


def test_who_does_not_agree_signs_nothing(floor: Floor, version: ModelDescriptor, home: Path) -> None:
    with pytest.raises(ApprovalRefusedError):
        yes(floor.here, version.model_digest, "eva-rossi", home, agrees=lambda _: False)

    assert floor.site.client.pending()[0].approvals == ()


def test_nothing_waits_where_nothing_was_requested(floor: Floor, home: Path) -> None:
    descriptor = floor.bring()

    with pytest.raises(ApprovalRefusedError):
        yes(floor.here, descriptor.model_digest, "eva-rossi", home, agrees=lambda _: True)


@pytest.mark.parametrize("way", [lambda home: ByOpenPGP(home=home), lambda _: BY_PASSWORD], ids=["openpgp", "password"])
def test_a_stranger_is_shown_nothing_and_asked_nothing(
    floor: Floor, version: ModelDescriptor, home: Path, way: Callable[[Path], Way]
) -> None:
    with pytest.raises(UnknownPersonError):
        approve(floor.here, version.model_digest, person="mallory", way=way(home), agrees=not_asked)


def test_who_lacks_what_the_way_takes_is_shown_nothing(floor: Floor, version: ModelDescriptor) -> None:
    with pytest.raises(UnknownPersonError):
        approve(floor.here, version.model_digest, person="eva-rossi", way=BY_PASSWORD, agrees=not_asked)


def test_changed_evidence_is_not_shown_as_if_nothing_were(floor: Floor, version: ModelDescriptor, home: Path) -> None:
    digest = floor.site.client.pending()[0].statement.evidence_digest
    path = evidence.folder(floor.site.config.at) / f"{digest}.json"
    path.write_bytes(canonical.dumps({**evidence.read(floor.site.config.at, digest), "serial": 9}))

    with pytest.raises(ProofError):
        yes(floor.here, version.model_digest, "eva-rossi", home, agrees=lambda _: True)


def test_a_folder_without_the_key_signs_nothing(floor: Floor, version: ModelDescriptor) -> None:
    with tempfile.TemporaryDirectory(prefix="slf", dir="/tmp") as folder:
        empty = Path(folder)
        try:
            with pytest.raises(KeyUnusableError):
                approve(
                    floor.here,
                    version.model_digest,
                    person="eva-rossi",
                    way=ByOpenPGP(home=empty),
                    agrees=lambda _: True,
                )
        finally:
            gpgagent.stop_agents(empty)
