"""What was touched, as a list that the stand-alone checker reads; ledgers in memory, their history made up."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.actions.tracing import listing
from appliance.actions.tracing.selection import By, Selector, resolve
from appliance.actions.tracing.together import Together
from appliance.audit import tree
from appliance.audit.memory import MemoryLedger
from appliance.audit.note import VerifierKey
from appliance.errors import LedgerDamagedError, LedgerUnavailableError, UnknownVersionError
from media.clock import FixedClock, from_text, to_text
from media.errors import UsageError
from tests.support import checker
from tests.support.ledger import approval, bodies

CHECKER = checker.loaded()
BEGIN = from_text("2026-11-20T08:00:00Z")
A, B, C = ("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return CHECKER


def asked(digest: str, serial: int, department: str = "radiology", arm: str = "production") -> dict[str, Any]:
    return {"model_digest": digest, "serial": serial, "department": department, "key_id": "k1", "arm": arm}


class History:
    """Two releases on three volumes, three versions, a canary; answers of each, before and after approvals."""

    def __init__(self) -> None:
        self.clock = FixedClock(BEGIN)
        self.ledger = MemoryLedger(self.clock)
        self.wanted: dict[tuple[By, str], list[str]] = {}
        self._number = 0
        append = self.ledger.append
        for serial, volumes, signers in ((1, ("V1", "V2"), ("ana", "ben")), (2, ("V3",), ("ana", "cyd"))):
            append(
                "release.received",
                {
                    **bodies()["release.received"],
                    "serial": serial,
                    "release": f"2026.{serial}",
                    "code": str(serial) * 64,
                    "volumes": [{"number": 1, "id": one, "tagmanifest_sha256": one.lower() * 32} for one in volumes],
                    "signers": [{"person": one, "name": one.title(), "fingerprint": one.upper()} for one in signers],
                    "metadata_signers": [{"person": "dee", "name": "Dee", "fingerprint": "DEE"}],
                },
            )
        for digest, serial in ((A, 1), (B, 1), (C, 2)):
            self.register(digest, serial)
        self.approve(A, "ana", "ben")
        self.answer(A, 1, {"ana", "ben"})
        self.clock.advance(3600)
        step = bodies(A)["promotion.canary-started"]
        terms = {"version": C, "percent": 20, "hours": 4, "watch_hours": 4}
        approvals = [self.approval("ben"), self.approval("cyd")]
        append("promotion.canary-started", {**step, "terms": terms, "approvals": approvals})
        self.answer(C, 2, {"ben", "cyd"}, arm="canary")
        self.answer(A, 1, {"ana", "ben"})
        self.approve(A, "cyd", "eve")
        self.answer(A, 1, {"cyd", "eve"})
        self.answer(B, 1, set(), department='=HYPERLINK("x")')
        self.ledger.checkpoint()

    @staticmethod
    def approval(person: str) -> dict[str, str]:
        return {**approval(person), "fingerprint": f"{person}-key"}

    def approve(self, digest: str, *people: str) -> None:
        approvals = [self.approval(one) for one in people]
        self.ledger.append("promotion.made", {**bodies(digest)["promotion.made"], "approvals": approvals})

    def register(self, digest: str, serial: int) -> None:
        self.ledger.append("model.registered", {**bodies(digest)["model.registered"], "serial": serial})

    def answer(self, digest: str, serial: int, approvers: set[str], **more: str) -> None:
        self._number += 1
        name = f"req_{self._number}"
        self.ledger.append("request.intent", {"request_id": name, **asked(digest, serial, **more)})
        self.ledger.append("request.outcome", {"request_id": name, "outcome": "ok"})
        touched = {(By.VERSION, digest), (By.RELEASE, str(serial))}
        touched |= {(By.MEDIUM, one) for one in (("V1", "V2") if serial == 1 else ("V3",))}
        touched |= {(By.SIGNER, one) for one in ("ana", "dee", "ben" if serial == 1 else "cyd")}
        touched |= {(By.APPROVER, one) for one in approvers}
        for one in touched:
            self.wanted.setdefault(one, []).append(name)

    def listed(self, selector: Selector, **more: Any) -> listing.Listed:
        key = VerifierKey.from_text(self.ledger.vkey)
        return listing.listed(self.ledger, selector, site="demo", key=key, clock=self.clock, **more)


@pytest.fixture
def history() -> History:
    return History()


def ids(found: listing.Found) -> list[str]:
    return [one["request_id"] for one in found.requests]


def test_every_selector_finds_what_it_touched_and_the_checker_agrees(
    history: History, module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(history.wanted) == 16
    for number, ((by, value), wanted) in enumerate(sorted(history.wanted.items())):
        made = history.listed(Selector(by=by, value=value))
        file = tmp_path / f"{number}.json"
        file.write_bytes(made.content)

        assert ids(made.found) == wanted, (by, value)
        assert checker.ending(module, "list", "--key", history.ledger.vkey, file) == 0, capsys.readouterr().err
        out = capsys.readouterr().out
        assert f"answers       {len(wanted)}, each in the tree" in out
        assert f"recorded      as {made.record}" in out
        assert "HOLDS" in out


def test_who_approved_a_cut_over_anew_is_an_approver_and_who_cut_over_alone_is_not(
    history: History, module: ModuleType, tmp_path: Path
) -> None:
    terms = {"version": C, "percent": 0, "hours": 0, "watch_hours": 0}
    body = {**bodies()["promotion.cut-over"], "model_digest": C, "terms": terms}
    history.ledger.append("promotion.cut-over", body)
    history.answer(C, 2, {"ben", "cyd"})
    approvals = [history.approval("fay"), history.approval("gus")]
    anew = {"statement": "signed", "requested_by": "ana", "approvals": approvals}
    history.ledger.append("promotion.cut-over", {**body, **anew})
    history.answer(C, 2, {"fay", "gus"})
    history.ledger.checkpoint()

    for person in ("ben", "cyd", "fay", "gus-key"):
        made = history.listed(Selector(by=By.APPROVER, value=person))
        assert ids(made.found) == history.wanted[By.APPROVER, person.removesuffix("-key")]
        (tmp_path / f"{person}.json").write_bytes(made.content)
        assert checker.ending(module, "list", "--key", history.ledger.vkey, tmp_path / f"{person}.json") == 0


def test_a_release_goes_by_its_name_and_code_and_people_by_their_keys(history: History) -> None:
    same = [
        (By.RELEASE, "1", ("2026.1", "1" * 64)),
        (By.MEDIUM, "V3", ("v3" * 32,)),
        (By.SIGNER, "ben", ("BEN",)),
        (By.APPROVER, "eve", ("eve-key",)),
    ]
    for by, value, others in same:
        for other in others:
            found = listing.counted(history.ledger, Selector(by=by, value=other))
            assert ids(found) == history.wanted[by, value]


def test_times_bound_the_list_and_the_end_is_not_in_it(history: History, module: ModuleType, tmp_path: Path) -> None:
    later = to_text(from_text("2026-11-20T09:00:00Z"))
    after = history.listed(Selector(by=By.RELEASE, value="1", since=later))
    before = history.listed(Selector(by=By.RELEASE, value="1", until=later))

    assert ids(before.found) == ["req_1"]
    assert ids(before.found) + ids(after.found) == history.wanted[By.RELEASE, "1"]
    for number, one in enumerate((before, after)):
        (tmp_path / str(number)).write_bytes(one.content)
        assert checker.ending(module, "list", "--key", history.ledger.vkey, tmp_path / str(number)) == 0


def test_what_no_record_names_is_refused(history: History) -> None:
    with pytest.raises(UnknownVersionError):
        resolve(history.ledger, Selector(by=By.VERSION, value="d" * 64))
    for by in (By.RELEASE, By.MEDIUM, By.SIGNER, By.APPROVER):
        with pytest.raises(UsageError):
            resolve(history.ledger, Selector(by=by, value="nobody"))


def test_a_version_that_answered_nothing_is_an_empty_list_that_holds(
    history: History, module: ModuleType, tmp_path: Path
) -> None:
    digest = "e" * 64
    history.register(digest, 9)
    made = history.listed(Selector(by=By.VERSION, value=digest))
    (tmp_path / "list.json").write_bytes(made.content)

    assert made.found.answers == 0
    assert checker.ending(module, "list", "--key", history.ledger.vkey, tmp_path / "list.json") == 0


def changes(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the file with one thing changed, in every way that an attacker would try."""
    text = json.dumps(value)
    for number, kept in enumerate(value["records"]):
        if json.loads(kept["raw"])["kind"] == "ledger.opened":
            continue
        changed = json.loads(text)
        changed["records"][number]["raw"] = kept["raw"].replace("radiology", "cardiology").replace("ana", "eva")
        changed["records"][number]["raw"] += "" if changed["records"][number]["raw"] != kept["raw"] else " "
        yield changed
        changed = json.loads(text)
        del changed["records"][number]
        yield changed
        changed = json.loads(text)
        changed["records"][number]["sequence"] += 1
        yield changed
    for number in range(len(value["list"]["answers"])):
        changed = json.loads(text)
        del changed["list"]["answers"][number]
        yield changed
    for name in ("by", "value", "since", "until", "site", "at", "origin", "root"):
        changed = json.loads(text)
        changed["list"][name] = {"by": "version", "since": "2026-11-20T08:00:00Z"}.get(name, "9")
        yield changed
    for number in range(len(value["hashes"])):
        changed = json.loads(text)
        changed["hashes"][number] = "0" * 64
        yield changed
    yield {**value, "hashes": value["hashes"][:-1]}
    yield {**value, "hashes": ["0" * 64, *value["hashes"]]}
    yield {**value, "hashes": [*value["hashes"], "0" * 64]}
    yield {**value, "recorded": None}


def test_no_change_of_a_list_is_taken(history: History, module: ModuleType, tmp_path: Path) -> None:
    value = json.loads(history.listed(Selector(by=By.SIGNER, value="ben")).content)
    file, taken, tried = tmp_path / "list.json", [], 0
    for one in changes(value):
        tried += 1
        text = json.dumps(one, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        file.write_text(text + "\n")
        if checker.ending(module, "list", "--key", history.ledger.vkey, file) == 0:
            taken.append(one)

    assert tried > 30
    assert taken == []


def test_a_release_that_brings_a_known_version_again_is_found_by_its_serial(
    history: History, module: ModuleType, tmp_path: Path
) -> None:
    history.answer(A, 2, set())  # registered by release 1, given under release 2
    made = history.listed(Selector(by=By.RELEASE, value="2"))
    (tmp_path / "list.json").write_bytes(made.content)

    assert ids(made.found) == ["req_2", "req_6"]
    assert checker.ending(module, "list", "--key", history.ledger.vkey, tmp_path / "list.json") == 0


def test_a_list_of_one_signer_is_not_taken_for_anothers(history: History, module: ModuleType, tmp_path: Path) -> None:
    value = json.loads(history.listed(Selector(by=By.SIGNER, value="ben"), is_recorded=False).content)
    value["list"]["value"] = "cyd"
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    (tmp_path / "list.json").write_text(text + "\n")
    words = ("list", "--unrecorded", "--key", history.ledger.vkey, tmp_path / "list.json")

    assert checker.ending(module, *words) == 91


@pytest.mark.parametrize("place", [-1, 10_000])
def test_a_record_beyond_the_signed_tree_is_in_no_list(
    place: int, history: History, module: ModuleType, tmp_path: Path
) -> None:
    value = json.loads(history.listed(Selector(by=By.VERSION, value=A), is_recorded=False).content)
    made_up = json.loads(next(one["raw"] for one in value["records"] if '"request.intent"' in one["raw"]))
    made_up = {**made_up, "sequence": place, "body": {**made_up["body"], "request_id": "req_made_up"}}
    raw = json.dumps(made_up, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    value["records"] = sorted(
        [*value["records"], {"sequence": place, "raw": raw}], key=lambda one: int(one["sequence"])
    )
    value["list"]["answers"] = sorted(
        [*value["list"]["answers"], CHECKER.entry_of(made_up)], key=lambda one: int(one["sequence"])
    )
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    (tmp_path / "list.json").write_text(text + "\n")
    words = ("list", "--unrecorded", "--key", history.ledger.vkey, tmp_path / "list.json")

    assert checker.ending(module, *words) == 91


def test_a_list_that_nobody_recorded_must_be_accepted_as_one(
    history: History, module: ModuleType, tmp_path: Path
) -> None:
    made = history.listed(Selector(by=By.VERSION, value=A), is_recorded=False)
    (tmp_path / "list.json").write_bytes(made.content)
    words = ("--key", history.ledger.vkey, tmp_path / "list.json")

    assert made.record == -1
    assert checker.ending(module, "list", *words) == 21
    assert checker.ending(module, "list", "--unrecorded", *words) == 0
    assert checker.ending(module, "list", "--unrecorded", "--key", MemoryLedger().vkey, tmp_path / "list.json") == 21


def test_a_print_is_compared_with_and_one_that_is_not_reached_is_said(
    history: History, module: ModuleType, tmp_path: Path
) -> None:
    printed = history.ledger.checkpoint()
    (tmp_path / "printed.txt").write_text(printed)
    history.ledger.append("trust.rotated", {"version": 2})
    selector = Selector(by=By.VERSION, value=A)
    words = ("--key", history.ledger.vkey, "--printed", tmp_path / "printed.txt")
    (tmp_path / "with.json").write_bytes(history.listed(selector, printed=[printed]).content)
    (tmp_path / "without.json").write_bytes(history.listed(selector).content)

    assert checker.ending(module, "list", *words, tmp_path / "with.json") == 0
    assert checker.ending(module, "list", *words, tmp_path / "without.json") == 2


def test_a_list_is_not_made_when_it_cannot_be_recorded(history: History) -> None:
    history.ledger.available = False

    with pytest.raises(LedgerUnavailableError):
        history.listed(Selector(by=By.VERSION, value=A))


def test_a_record_that_an_index_hides_stops_the_list(history: History) -> None:
    class Hiding(MemoryLedger):
        def leaves(self, *words: Any, **named: Any) -> list[Any]:
            return [leaf for leaf in history.ledger.leaves(*words, **named) if leaf.body.get("request_id") != "req_3"]

        def __init__(self) -> None:
            self.log = history.ledger.log

    key = VerifierKey.from_text(history.ledger.vkey)
    with pytest.raises(LedgerDamagedError):
        listing.listed(Hiding(), Selector(by=By.VERSION, value=A), site="demo", key=key, clock=history.clock)


def test_the_table_holds_no_formula(history: History) -> None:
    data = listing.table(history.listed(Selector(by=By.VERSION, value=B)).found)

    (row,) = list(csv.DictReader(io.StringIO(data.decode())))
    assert row["department"] == '\'=HYPERLINK("x")'
    assert row["request_id"] == "req_5"


def test_nothing_of_what_was_asked_or_answered_is_in_a_list(history: History) -> None:
    entry = listing.counted(history.ledger, Selector(by=By.VERSION, value=A)).requests[0]

    assert set(entry) == set(listing.COLUMNS)


@given(st.lists(st.booleans(), max_size=70))
def test_one_proof_of_many_records_gives_the_root_of_every_tree(wanted: list[bool]) -> None:
    raws = [b"%d" % number for number in range(len(wanted))]
    together, frontier = Together(), list[bytes]()
    for number, is_wanted in enumerate(wanted):
        together.take(tree.leaf_hash(raws[number]), wanted=is_wanted)
        tree.push(frontier, number, tree.leaf_hash(raws[number]))
    root, hashes = together.end()

    assert root == tree.root_of(frontier)
    kept = {number: raws[number] for number, is_wanted in enumerate(wanted) if is_wanted}
    left = list(reversed(hashes))
    if wanted:
        assert CHECKER.root_around(list(kept), kept, left, 0, len(wanted)) == root
        assert left == []
    assert len(hashes) <= 1 + len(kept) * max(1, len(wanted)).bit_length()
