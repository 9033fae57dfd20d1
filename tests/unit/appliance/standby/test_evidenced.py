"""What gates found goes with the promotions that rest on it, so that an answer of the standby is proven there, too."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import pytest

from appliance.actions.standby import evidenced, keeping, sending
from appliance.config import StandbySection
from appliance.registry import evidence
from appliance.standby import inbox, peerkeys, peers
from appliance.standby.bundle import ENVELOPE_NAME, EVIDENCE_NAME, LEAVES_NAME
from appliance.standby.carried import origin_of
from appliance.standby.peers import PeerRefusedError
from media import canonical
from media.digest import sha256_hex
from media.errors import MalformedError
from tests.support import boxes
from tests.support.boxes import first, second
from tests.support.promotion import Site, digest

__all__ = ["first", "second"]  # fixtures

VERSION = digest("version")


def found_by_gates(box: Site, text: str = "one run", *, is_kept: bool = True) -> str:
    """Let a gate pass with a document of its own; return the document's digest."""
    document = {"model_digest": VERSION, "gates": [{"gate": "smoke", "passed": True, "said": text}]}
    named = evidence.store(box.config.at, document)
    if not is_kept:
        (evidence.folder(box.config.at) / f"{named}.json").unlink()
    body = {"model_digest": VERSION, "gate": "smoke", "passed": True, "evidence_digest": named, "figures": {}}
    box.ledger.append("gate.result", body)
    return named


def kept(box: Site) -> list[str]:
    return sorted(path.stem for path in evidence.folder(box.config.at).glob("*"))


def test_a_document_that_a_proven_record_names_is_kept_and_nothing_else_that_came(first: Site, second: Site) -> None:
    named = found_by_gates(first)
    made = boxes.bundle(first, "two")
    foreign = canonical.dumps({"format": 1, "type": evidence.TYPE, "model_digest": VERSION, "gates": []})
    came = b"\n".join((foreign, b"no document", b"", made.evidence, named.encode()))

    keeping.grow(second.config, made.envelope, made.leaves, came, peer="one", ledger=second.ledger)

    assert kept(second) == [named]
    assert evidence.read(second.config.at, named) == evidence.read(first.config.at, named)


def test_a_record_that_names_what_is_no_document_brings_none(first: Site, second: Site) -> None:
    body = {"model_digest": VERSION, "gate": "smoke", "passed": True, "figures": {}}
    first.ledger.append("gate.result", {**body, "evidence_digest": digest("no document")})
    made = boxes.bundle(first, "two")

    keeping.grow(second.config, made.envelope, made.leaves, b"no document\n", peer="one", ledger=second.ledger)

    assert kept(second) == []


def test_what_was_lost_on_the_way_or_never_sent_comes_with_the_next_bundle(first: Site) -> None:
    older, old, new = (found_by_gates(first, text) for text in ("older", "old", "new"))

    documents = evidenced.of(first.config, first.ledger, since=first.ledger.head().size).splitlines()

    assert [sha256_hex(line) for line in documents] == [new, old]
    assert older in {sha256_hex(line) for line in evidenced.of(first.config, first.ledger, since=0).splitlines()}


def test_a_bundle_that_does_not_bring_all_has_the_documents_of_what_it_brings(first: Site, second: Site) -> None:
    """What later records name would be left aside there, and might leave no room for what these name."""
    named = [found_by_gates(first, text) for text in ("a", "b", "c")]
    first.ledger.checkpoint()
    size = first.ledger.head().size
    aim = sum(len(leaf.raw) + 1 for leaf in first.ledger.leaves(0, size))
    named_later = [found_by_gates(first, text) for text in ("d", "e", "f")]

    keys = boxes.keys_of(first)
    made = keeping.make(first.config, "two", since=0, ledger=first.ledger, keys=keys, clock=first.clock, aim=aim)

    assert (made.size, made.more) == (size, True)
    assert [sha256_hex(line) for line in made.evidence.splitlines()] == named[::-1]
    keeping.grow(second.config, made.envelope, made.leaves, made.evidence, peer="one", ledger=second.ledger)
    assert kept(second) == sorted(named)
    assert not set(named) & set(named_later)


def test_a_box_that_lost_a_document_gives_the_others(first: Site) -> None:
    lost, there = found_by_gates(first, "lost", is_kept=False), found_by_gates(first, "there")

    documents = evidenced.of(first.config, first.ledger, since=0).splitlines()

    assert lost != there
    assert [sha256_hex(line) for line in documents] == [there]


def test_results_are_recorded_once_before_the_promotion_that_rests_on_them(first: Site, second: Site) -> None:
    first.promote(VERSION)
    boxes.carry(first, second, name="two", peer="one")
    assert second.ledger.find("gate.result", limit=100) == []  # the version is unknown here, so nothing is said of it
    second.ledger.append(
        "model.registered",
        {
            "model_digest": VERSION,
            "name": "tiny",
            "version": "1",
            "weights_digest": digest("weights" + VERSION),
            "serial": 1,
            "descriptor": {"quantization": "Q4_K_M"},
        },
    )

    for _ in range(2):
        first.ledger.append("key.revoked", {"key_id": "abcdefghij", "reason": "something is news"})
        boxes.carry(first, second, name="two", peer="one")

    results = second.ledger.find("gate.result", limit=100)
    there = first.ledger.find("gate.result", limit=100)
    (promotion,) = second.ledger.find("promotion.made")
    assert {leaf.body["gate"] for leaf in results} == {leaf.body["gate"] for leaf in there}
    assert len(results) == len(there)
    assert all(leaf.sequence < promotion.sequence for leaf in results)
    assert {origin_of(leaf.body) for leaf in results} == {first.ledger.head().origin}


def test_a_box_s_own_results_do_not_come_back_to_it_as_new_ones(first: Site, second: Site) -> None:
    first.promote(VERSION)
    second.ledger.append("model.registered", dict(first.ledger.find("model.registered", limit=1)[0].body))
    boxes.carry(first, second, name="two", peer="one")
    own = first.ledger.find("gate.result", limit=100)
    copies = second.ledger.find("gate.result", limit=100)
    assert copies
    found_by_gates(second, "a run of its own")
    (newer,) = second.ledger.find("gate.result", limit=1)
    boxes.grow(first, boxes.bundle(second, "one"), "two")

    box = boxes.card(second, "two").card
    results = [boxes.proven(second, leaf.sequence) for leaf in (*copies, newer)]
    evidenced.record(results, box, peerkeys.known(first.ledger, box), ledger=first.ledger)

    found = first.ledger.find("gate.result", limit=100)
    assert len(found) == len(own) + 1
    assert found[0].body["carried"]["sequence"] == newer.sequence


@pytest.mark.usefixtures("second")
def test_a_release_of_before_takes_no_documents_and_gets_the_records_all_the_same(
    first: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    put: dict[str, bytes] = {}

    def call(_line: object, do: str, **fields: Any) -> Mapping[str, Any]:
        if do == "have":
            return {"size": 0}
        if do == "put" and fields["name"] not in (ENVELOPE_NAME, LEAVES_NAME):
            raise PeerRefusedError(what="the box two refused", why="name", fix="")
        put[str(fields.get("name", do))] = put.get(str(fields.get("name", do)), b"") + str(fields.get("data")).encode()
        return {}

    found_by_gates(first)
    config = first.config.model_copy(update={"standby": StandbySection(peer="two", peer_address="127.0.0.1")})
    monkeypatch.setattr(peers.PeerLine, "__init__", lambda *_, **__: None)
    monkeypatch.setattr(peers.PeerLine, "close", lambda _: None)
    monkeypatch.setattr(peers.PeerLine, "call", call)

    sent = sending.send(config, "two", ledger=first.ledger, keys=boxes.keys_of(first), clock=first.clock)

    assert sent.size > 0
    assert list(put) == [LEAVES_NAME, ENVELOPE_NAME, "done"]


@pytest.mark.usefixtures("second")
def test_documents_lie_in_the_inbox_beside_the_bundle_and_an_unknown_name_is_refused(
    first: Site, tmp_path: Any
) -> None:
    found_by_gates(first)
    made, taken = boxes.bundle(first, "two"), inbox.Inbox(tmp_path / "inbox")
    for name, content in ((EVIDENCE_NAME, made.evidence), (LEAVES_NAME, made.leaves), (ENVELOPE_NAME, made.envelope)):
        taken.handle("one", {"do": "put", "name": name, "offset": 0, "data": b64encode(content).decode()})
    assert taken.handle("one", {"do": "done"}) == {"taken": True}

    assert keeping.read_evidence(tmp_path / "inbox/one.ready") == made.evidence
    assert made.evidence.count(b"\n") == 1
    with pytest.raises(MalformedError):
        taken.handle("one", {"do": "put", "name": "evidence.json", "offset": 0, "data": ""})
