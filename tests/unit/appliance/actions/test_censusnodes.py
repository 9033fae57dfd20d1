"""A list of names on several nodes: which one is on record, and whether this node has that one."""

import pytest

from appliance.actions import census, censusnodes
from appliance.actions.census import on_record, parsed
from appliance.actions.censusnodes import FOLLOWED, SEEN, Word, compared, fault, say, standing
from appliance.actions.findings import Finding
from appliance.audit.memory import MemoryLedger
from appliance.config import Config, DatabaseSection
from appliance.keys.files import FileKeys, create_missing
from appliance.phi.censusfile import NAME

LIST, OTHER = parsed(b"Jane Doe\nRoe, Max\n"), parsed(b"Jane Doe\n")
SINGLE = Finding(name="census", is_good=True, text="as on one box")


@pytest.fixture
def node(config: Config) -> Config:
    database = DatabaseSection(kind="postgresql", socket="/run/postgresql", node="b")
    # Where the records lie is no part of this; the places stay those of a box.
    return config.model_copy(update={"database": database.model_copy(update={"kind": "sqlite"})})


@pytest.fixture
def keys(node: Config) -> FileKeys:
    create_missing(node.at.key_files)
    return FileKeys(node.at.key_files)


def bring(config: Config, ledger: MemoryLedger, keys: FileKeys, names: census.Names = LIST) -> None:
    censusnodes.bring(config, names, ledger=ledger, keys=keys, person="ada")


def word(config: Config, ledger: MemoryLedger, keys: FileKeys) -> Word:
    return compared(config.at.census, keys, on_record(ledger))


def test_a_node_tells_the_list_on_record_from_none_another_and_a_damaged_one(node: Config, keys: FileKeys) -> None:
    ledger, file = MemoryLedger(), node.at.census / NAME
    assert word(node, ledger, keys) is Word.SAME

    bring(node, ledger, keys)
    assert word(node, ledger, keys) is Word.SAME
    kept = file.read_bytes()
    file.unlink()
    assert word(node, ledger, keys) is Word.ABSENT
    file.write_bytes(kept[:-1])
    assert word(node, ledger, keys) is Word.UNREADABLE
    bring(node, MemoryLedger(), keys, OTHER)
    assert word(node, ledger, keys) is Word.OTHER
    assert word(node, MemoryLedger(), keys) is Word.LEFT

    file.write_bytes(kept)
    keys.remove("content-hmac", 1)
    assert word(node, ledger, keys) is Word.UNREADABLE


def test_only_what_masks_less_than_the_others_is_held_against_a_node() -> None:
    assert {one for one in Word if one.masks_less} == {Word.ABSENT, Word.OTHER, Word.UNREADABLE}


def test_another_node_takes_the_list_on_record_under_a_record_of_its_own_and_no_other(
    node: Config, keys: FileKeys
) -> None:
    ledger = MemoryLedger()
    bring(node, ledger, keys)
    digest = ledger.find(census.IMPORTED)[0].body["digest"]
    (node.at.census / NAME).unlink()

    bring(node, ledger, keys)
    assert [dict(leaf.body) for leaf in ledger.find(FOLLOWED)] == [{"digest": digest, "person": "ada"}]
    assert len(ledger.find(census.IMPORTED)) == 1
    assert word(node, ledger, keys) is Word.SAME

    bring(node, ledger, keys)  # confirmed where it is: a new import, which is the lead's to record
    (node.at.census / NAME).unlink()
    bring(node, ledger, keys, OTHER)
    assert (len(ledger.find(FOLLOWED)), len(ledger.find(census.IMPORTED))) == (1, 3)


def test_a_list_that_was_forgotten_elsewhere_goes_here_under_a_record_of_this_node(
    node: Config, keys: FileKeys
) -> None:
    ledger, file = MemoryLedger(), node.at.census / NAME
    bring(node, ledger, keys)
    kept = file.read_bytes()
    censusnodes.forget(node, ledger=ledger, person="ada", reason="moved")
    file.write_bytes(kept)

    assert censusnodes.forget(node, ledger=ledger, person="ada", reason="moved")
    assert not file.exists()
    assert (len(ledger.find(census.FORGOTTEN)), len(ledger.find(FOLLOWED))) == (1, 1)
    assert not censusnodes.forget(node, ledger=ledger, person="ada", reason="moved")


def test_a_box_alone_records_each_import_as_ever(config: Config) -> None:
    create_missing(config.at.key_files)
    ledger, keys = MemoryLedger(), FileKeys(config.at.key_files)
    for _ in range(2):
        bring(config, ledger, keys)
        (config.at.census / NAME).unlink()

    assert (len(ledger.find(census.IMPORTED)), len(ledger.find(FOLLOWED))) == (2, 0)
    assert fault(config, ledger) == ""


def test_a_nodes_word_holds_for_the_record_it_is_about(node: Config, keys: FileKeys) -> None:
    ledger = MemoryLedger()
    assert standing(ledger, "b") == (None, "there is no list of names")

    bring(node, ledger, keys)
    first = ledger.find(census.IMPORTED)[0].sequence
    assert "not said yet" in fault(node, ledger)
    say(ledger, "b", Word.SAME, first)
    assert standing(ledger, "b") == (True, "node b has the list of names that is on record")
    assert (fault(node, ledger), standing(ledger, "a")[0]) == ("", False)

    bring(node, ledger, keys, OTHER)
    assert "not said yet" in fault(node, ledger)
    say(ledger, "b", Word.OTHER, ledger.find(census.IMPORTED)[0].sequence)
    assert fault(node, ledger) == "node b has another list of names than the one on record"


def test_a_word_is_recorded_once_without_a_name_and_a_site_without_a_list_says_none() -> None:
    ledger = MemoryLedger()
    say(ledger, "b", Word.SAME, None)
    assert not ledger.find(SEEN)

    for _ in range(2):
        say(ledger, "b", Word.ABSENT, 7)
    say(ledger, "a", Word.SAME, 7)
    say(ledger, "b", Word.SAME, 7)
    assert [dict(leaf.body) for leaf in ledger.find(SEEN, newest_first=False)] == [
        {"node": "b", "list": "absent", "of": 7},
        {"node": "a", "list": "same", "of": 7},
        {"node": "b", "list": "same", "of": 7},
    ]
    ledger.append(SEEN, {"node": "b", "list": "of a later release", "of": 7})
    assert censusnodes.said(ledger, "b") == (Word.UNREADABLE, 7)


def test_doctor_compares_with_the_keys_and_goes_by_the_nodes_word_without(node: Config, keys: FileKeys) -> None:
    ledger = MemoryLedger()
    bring(node, ledger, keys)
    assert censusnodes.finding(node, ledger, lambda: SINGLE) is SINGLE

    bring(node, MemoryLedger(), keys, OTHER)
    found = censusnodes.finding(node, ledger, lambda: SINGLE)
    assert (found.is_good, found.text) == (False, "node b has another list of names than the one on record")

    nothing = MemoryLedger()
    left = censusnodes.finding(node, nothing, lambda: SINGLE)
    assert left.fix.startswith("`sealift census forget` on this node"), "there is no list to import"
    assert "import" not in left.fix

    elsewhere = node.model_copy(update={"places": node.places.model_copy(update={"root": f"{node.places.root}/none"})})
    say(ledger, "b", Word.SAME, ledger.find(census.IMPORTED)[0].sequence)
    assert censusnodes.finding(elsewhere, ledger, lambda: SINGLE).text == (
        "node b lacks the list of names that is on record, and knows names by patterns alone"
    )
