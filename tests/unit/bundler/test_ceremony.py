import json
from pathlib import Path

import pytest

from bundler.ceremony import Invitation, KeyPlace, hold
from bundler.errors import CeremonyError, NotEmptyError
from bundler.signatory import Ceremony
from media.canonical import loads
from media.digest import file_sha256
from tests.support.gpg import GnuPG
from tests.support.medium import throwaway_ceremony

pytestmark = pytest.mark.slow

ALICE = Invitation(id="alice", name="Alice Archer")
BOB = Invitation(id="bob", name="Bob Baker")


def test_a_ceremony_is_read_back_as_it_was_held(tmp_path: Path) -> None:
    held = hold(tmp_path / "c", [ALICE, BOB], environment="demo")

    read = Ceremony.load(tmp_path / "c")

    assert read.chain == held.chain
    assert read.environment == "demo"
    assert [person.name for person in read.people.people] == ["Alice Archer", "Bob Baker"]
    assert read.threshold("root") == read.threshold("release") == 2


def test_the_trust_facts_name_the_digest_of_the_root_file(tmp_path: Path) -> None:
    hold(tmp_path / "c", [ALICE, BOB], environment="demo")

    facts = loads((tmp_path / "c" / "trust-facts.json").read_bytes())

    assert facts["root_sha256"] == file_sha256(tmp_path / "c" / "root" / "1.root.json")


def test_every_person_has_a_key_for_the_root_and_another_for_releases() -> None:
    people = throwaway_ceremony().people.people

    keys = [keyid for person in people for own in person.keys.values() for keyid in own]

    assert len(set(keys)) == len(keys) == 5


def test_someone_without_the_role_root_has_no_root_key() -> None:
    carol = throwaway_ceremony().person("carol")

    assert carol.keys["root"] == ()
    assert carol.keys["release"] == (carol.fingerprint.lower(),)


def test_a_home_deep_in_a_folder_still_makes_keys(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-rather-long-folder-name"] * 4)

    assert hold(deep, [ALICE, BOB], environment="demo").environment == "demo"


def test_a_second_ceremony_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    hold(tmp_path, [ALICE, BOB], environment="demo")

    with pytest.raises(NotEmptyError, match="holds a ceremony already"):
        hold(tmp_path, [ALICE, BOB], environment="demo")


@pytest.mark.parametrize(
    ("people", "said"),
    [
        ([ALICE, Invitation(id="alice", name="Another Name")], "two people with the id 'alice'"),
        ([ALICE, Invitation(id="bob", name="alice  archer")], "two people with the name"),
        ([ALICE], "a threshold of 2 of 1 for root"),
        ([ALICE, Invitation(id="bob", name="Bob Baker", roles=("root",))], "a threshold of 2 of 1 for release"),
        ([ALICE, Invitation(id="bob", name="Bob Baker", roles=("boss",))], "the roles of bob"),
        ([ALICE, Invitation(id="Bob", name="Bob Baker")], "the person 'Bob'"),
        ([ALICE, Invitation(id="bob", name="Bob <bob@example.com>")], "the person 'bob'"),
    ],
)
def test_unsound_people_are_refused_before_any_key_is_made(tmp_path: Path, people: list[Invitation], said: str) -> None:
    with pytest.raises(CeremonyError) as refused:
        hold(tmp_path / "c", people, environment="demo")

    assert said in refused.value.what
    assert not (tmp_path / "c").exists()


def test_one_signature_is_never_enough(tmp_path: Path) -> None:
    with pytest.raises(CeremonyError, match="a threshold of 1"):
        hold(tmp_path / "c", [ALICE, BOB], environment="demo", thresholds={"release": 1})


def test_production_makes_no_keys(tmp_path: Path) -> None:
    with pytest.raises(CeremonyError, match="alice brings no keys"):
        hold(tmp_path / "c", [ALICE, BOB], environment="production")


def test_demo_takes_no_keys(tmp_path: Path, gnupg: GnuPG) -> None:
    place = KeyPlace(home=gnupg.home, fingerprint="0" * 40)
    bringing = Invitation(id="alice", name="Alice Archer", root_key=place, release_key=place)

    with pytest.raises(CeremonyError, match="alice brings keys"):
        hold(tmp_path / "c", [bringing, BOB], environment="demo")


def test_a_production_root_names_the_keys_that_people_bring(tmp_path: Path, gnupg: GnuPG) -> None:
    keys = {name: gnupg.key(f"{name} <{name}@sender.example>") for name in ("ar", "al", "br", "bl")}

    held = hold(
        tmp_path / "c",
        [_bringing("alice", "Alice Archer", gnupg, keys["ar"], keys["al"]), _bob(gnupg, keys["br"], keys["bl"])],
        environment="production",
    )

    assert held.environment == "production"
    assert held.person("bob").fingerprint == keys["bl"]
    assert not (tmp_path / "c" / "people").exists()


def test_one_key_for_two_people_is_refused(tmp_path: Path, gnupg: GnuPG) -> None:
    keys = [gnupg.key(f"k{number} <k{number}@sender.example>") for number in range(3)]

    with pytest.raises(CeremonyError, match=r"one key for alice \(release\) and bob \(release\)"):
        hold(
            tmp_path / "c",
            [_bringing("alice", "Alice Archer", gnupg, keys[0], keys[1]), _bob(gnupg, keys[2], keys[1])],
            environment="production",
        )


def test_one_key_for_both_uses_is_refused(tmp_path: Path, gnupg: GnuPG) -> None:
    keys = [gnupg.key(f"u{number} <u{number}@sender.example>") for number in range(3)]

    with pytest.raises(CeremonyError, match=r"one key for alice \(root\) and alice \(release\)"):
        hold(
            tmp_path / "c",
            [_bringing("alice", "Alice Archer", gnupg, keys[0], keys[0]), _bob(gnupg, keys[1], keys[2])],
            environment="production",
        )


def test_a_key_that_is_not_in_the_home_is_refused(tmp_path: Path, gnupg: GnuPG) -> None:
    key = gnupg.key("there <there@sender.example>")

    with pytest.raises(CeremonyError, match="is not in that GnuPG home"):
        hold(
            tmp_path / "c",
            [_bringing("alice", "Alice Archer", gnupg, "0" * 40, key), _bob(gnupg, key, key)],
            environment="production",
        )


def test_a_root_with_one_signature_taken_off_is_no_root(tmp_path: Path) -> None:
    held = throwaway_ceremony()
    root = loads(held.chain[0])
    root["signatures"] = root["signatures"][:1]
    _write_root(tmp_path, root)

    with pytest.raises(CeremonyError, match="does not verify"):
        Ceremony.load(tmp_path)


def test_a_root_whose_people_were_changed_is_no_root(tmp_path: Path) -> None:
    root = loads(throwaway_ceremony().chain[0])
    root["signed"]["x-sealift-people"][1]["name"] = "Mallory Moss"
    _write_root(tmp_path, root)

    with pytest.raises(CeremonyError, match="does not verify"):
        Ceremony.load(tmp_path)


def test_a_folder_without_a_root_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CeremonyError) as refused:
        Ceremony.load(tmp_path)

    assert "ceremony hold" in refused.value.fix


def _write_root(folder: Path, root: object) -> None:
    (folder / "root").mkdir()
    (folder / "root" / "1.root.json").write_text(json.dumps(root), encoding="utf-8")


def _bringing(person: str, name: str, gnupg: GnuPG, root: str, release: str) -> Invitation:
    return Invitation(
        id=person,
        name=name,
        root_key=KeyPlace(home=gnupg.home, fingerprint=root),
        release_key=KeyPlace(home=gnupg.home, fingerprint=release),
    )


def _bob(gnupg: GnuPG, root: str, release: str) -> Invitation:
    return _bringing("bob", "Bob Baker", gnupg, root, release)
