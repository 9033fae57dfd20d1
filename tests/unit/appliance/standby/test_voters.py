"""A voter of the lease that does not answer is told before it is needed: to people, to the doctor and to monitoring."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from appliance import config as configuration
from appliance import unit, wire
from appliance.actions.observed import observed
from appliance.actions.standby import voting
from appliance.audit.memory import MemoryLedger
from appliance.cli import standby
from appliance.config import Config
from appliance.errors import NotActiveError
from appliance.standby import channel, permit, voters, whole
from appliance.standby.address import NoAddress
from appliance.standby.keeper import Keeper, Voters
from appliance.standby.lease import Kept, Lease, Rules
from appliance.standby.pairing import Relation, require_paired
from appliance.standby.peers import Listener, PeerLine
from appliance.standby.voters import LASTS_SECONDS, Hearing
from media import canonical
from media.clock import SystemClock
from media.errors import UsageError
from tests.support import boxes
from tests.support.commands import typed
from tests.support.promotion import Site
from tests.support.versions import short_folder

SECONDS = 0.4
RULES = Rules(seconds=SECONDS, witness="two", margin=0.1)


def config_of(root: Path, **section: object) -> Config:
    named = {"site": "demo", "environment": "demo", "places": {"root": str(root)}, "standby": section}
    return Config.model_validate(named)


def test_one_that_had_no_time_to_answer_is_neither_silent_nor_counted_on(tmp_path: Path) -> None:
    hearing = Hearing(["two", "three"], witness="three", started=100.0, patience=3.5)

    assert [one.answers for one in hearing.voters(103.0)] == [True, True]
    assert not hearing.has_answered("three", 103.0)
    hearing.heard("two", 103.0)
    hearing.tell(tmp_path, 104.0)

    assert [(one.shown, one.answers) for one in voters.read(tmp_path, 104.0)] == [
        ("the other box two", True),
        ("the witness three", False),
    ]
    assert [(one.name, one.since) for one in voters.silent(tmp_path, 104.0)] == [("three", 100.0)]
    assert hearing.has_answered("two", 106.0)
    assert not hearing.has_answered("two", 107.0)


def test_it_is_written_when_it_is_news_and_anybody_may_read_it(tmp_path: Path) -> None:
    hearing = Hearing(["two"], witness="", started=100.0, patience=3.5)
    hearing.tell(tmp_path, 101.0)
    file = tmp_path / voters.FILE
    first = file.stat().st_ino
    hearing.heard("two", 101.0)
    hearing.tell(tmp_path, 102.0)
    kept = file.stat().st_ino
    hearing.tell(tmp_path, 110.0)

    assert (first == kept, file.stat().st_mode & 0o777) == (True, 0o644)
    assert voters.silent(tmp_path, 110.0)
    voters.take_away(tmp_path)
    assert voters.read(tmp_path, 110.0) == ()


def test_a_keeper_that_was_killed_or_hangs_tells_of_nobody_any_more(tmp_path: Path) -> None:
    hearing = Hearing(["two"], witness="", started=100.0, patience=3.5)
    for at in range(100, 200):
        hearing.heard("two", at)
        hearing.tell(tmp_path, at)
        assert voters.read(tmp_path, at), "it is told again before it is too old"

    assert [one.name for one in voters.read(tmp_path, 200)] == ["two"]
    assert voters.read(tmp_path, 200 + LASTS_SECONDS) == ()
    assert voters.read(tmp_path, 50) == (), "a boot has no memory of it"


@pytest.mark.parametrize("content", [b"", b"{", b'{"voters":[{"name":"two"}]}', b'{"voters":7}'])
def test_what_does_not_read_tells_of_nobody(tmp_path: Path, content: bytes) -> None:
    (tmp_path / voters.FILE).write_bytes(content)

    assert voters.read(tmp_path) == ()


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@contextlib.contextmanager
def answering(witness: Site, port: int) -> Iterator[None]:
    """Let the witness listen: it knows who holds the lease, and grants it to nobody else."""
    plain = socket.create_server(("127.0.0.1", port))
    known = {"one": require_paired(witness.config.at, "one").peer.channel}
    said = {"granted": False, "term": 1, "holder": "three", "run": ""}
    listener = Listener(plain, own=key_of(witness), known=known, handler=lambda *_: said)
    try:
        yield
    finally:
        listener.close()


def key_of(box: Site) -> Path:
    return box.config.at.key_files / channel.KEY_FILE


def test_a_box_that_stands_by_knows_whether_its_witness_answers_before_it_needs_it(tmp_path: Path) -> None:
    first, second = boxes.open_box(tmp_path / "one"), boxes.open_box(tmp_path / "two")
    boxes.pair(first, second, Relation.TEST)
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    certificate = require_paired(first.config.at, "two").peer.channel
    line = PeerLine("127.0.0.1", port, own=key_of(first), name="two", certificate=certificate, timeout_seconds=1)
    lease = Lease(
        me="one", rules=RULES, kept=Kept(term=1, holder="three", witness="two"), started=permit.boottime(), run="here"
    )
    keeper = Keeper(
        lease,
        state=tmp_path,
        run=tmp_path,
        known=Voters(others={"two": line}, candidates=frozenset({"three"}), serves=True),
        address=NoAddress(),
        record=lambda *_: None,
    )

    def told() -> Mapping[str, Any]:
        return keeper.command({"do": "lease"})

    keeper.start()
    wait_until(lambda: bool(voters.silent(tmp_path)))
    before = told()
    with answering(second, port):
        wait_until(lambda: told()["would_follow"] is True and not voters.silent(tmp_path))
        during = told()
    line.close()
    wait_until(lambda: bool(voters.silent(tmp_path)))
    after = told()
    keeper.stop()

    assert (before["would_follow"], before["hindered"]) == (False, "the witness two does not answer")
    assert during["hindered"] == ""
    assert [(one["name"], one["witness"], one["answers"]) for one in during["voters"]] == [("two", True, True)]
    assert (after["would_follow"], after["voters"][0]["answers"]) == (False, False)
    assert not (tmp_path / voters.FILE).exists()


def test_a_hand_over_to_the_wrong_box_or_on_the_wrong_one_says_which_is_right(tmp_path: Path) -> None:
    first, second = boxes.open_box(tmp_path / "one"), boxes.open_box(tmp_path / "two")
    boxes.pair(first, second)
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    certificate = require_paired(first.config.at, "two").peer.channel
    line = PeerLine("127.0.0.1", port, own=key_of(first), name="two", certificate=certificate, timeout_seconds=1)
    keeper = Keeper(
        Lease(me="one", rules=Rules(seconds=SECONDS), kept=Kept(term=1, holder="two"), started=permit.boottime()),
        state=tmp_path,
        run=tmp_path,
        known=Voters(others={"two": line}, candidates=frozenset({"two"}), serves=True),
        address=NoAddress(),
        record=lambda *_: None,
    )
    with answering(second, port):
        with pytest.raises(UsageError) as itself:
            keeper.command({"do": "hand-over", "to": "one", "by": "Ana"})
        with pytest.raises(NotActiveError) as elsewhere:
            keeper.command({"do": "hand-over", "to": "two", "by": "Ana"})
    line.close()

    assert itself.value.fix == "name the other box: two"
    assert (elsewhere.value.why, elsewhere.value.fix) == ("two holds the lease", "run it on the box that serves")


def test_a_holder_that_goes_by_another_witness_is_said_to_be_in_the_way(tmp_path: Path) -> None:
    lease = Lease(me="two", rules=Rules(seconds=3.0), kept=Kept(term=1, holder="one"), started=900.0, run="here")
    keeper = Keeper(
        lease,
        state=tmp_path,
        run=tmp_path,
        known=Voters(others={}, candidates=frozenset({"one"}), serves=True),
        address=NoAddress(),
        record=lambda *_: None,
        now=lambda: 1000.0,
    )
    ask = {"do": "ask", "term": 1, "leased": True, "run": "here"}

    assert keeper.handle("one", ask)["granted"] is True
    follows = keeper.command({"do": "lease"})["would_follow"]
    keeper.handle("one", {**ask, "witness": "three"})
    told = keeper.command({"do": "lease"})

    assert (follows, told["would_follow"]) == (True, False)
    assert told["hindered"] == "the other box goes by the witness three, and this one by none"


def tell(config: Config, *, witness_answers: bool) -> None:
    """Let two voters be known of a box: the other one, which answers, and the witness."""
    now = permit.boottime()
    hearing = Hearing(["two", "three"], witness="three", started=now - 80, patience=3.5)
    hearing.heard("two", now)
    if witness_answers:
        hearing.heard("three", now)
    folder = permit.folder_of(config.at)
    folder.mkdir(parents=True, exist_ok=True)
    hearing.tell(folder, now)


def test_the_doctor_says_which_voter_is_silent_and_what_that_means(tmp_path: Path) -> None:
    config = config_of(tmp_path, lease=True, peer="two", witness="three")

    assert list(voting.findings(config)) == []
    tell(config, witness_answers=True)
    (good,) = voting.findings(config)
    tell(config, witness_answers=False)
    (bad,) = voting.findings(config)

    assert (good.is_good, good.text) == (True, "answered by the other box two and the witness three")
    assert (bad.is_good, bad.text[:38]) == (False, "the witness three has not answered for")
    assert "neither box takes over by itself" in bad.why
    assert "systemctl status sealift-standby" in bad.fix
    assert list(voting.findings(config_of(tmp_path))) == []


def test_the_doctor_says_that_this_box_lost_records_and_must_not_serve(tmp_path: Path) -> None:
    config = config_of(tmp_path, lease=True, peer="two", witness="three")
    tell(config, witness_answers=True)
    folder = config.at.state / "standby"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / whole.STATE).write_bytes(canonical.dumps({"peer": "two", "why": "it holds 9 records of this box"}))

    bad, good = voting.findings(config)

    assert (bad.is_good, good.is_good) == (False, True)
    assert bad.text == "this box lost records that two holds: it holds 9 records of this box"
    assert "a fork" in bad.fix
    assert len(list(voting.findings(config_of(tmp_path, lease=True, peer="new", witness="three")))) == 1


def test_the_doctor_of_a_witness_says_who_is_let_in(tmp_path: Path) -> None:
    (shut,) = voting.findings(config_of(tmp_path, listen="10.9.0.3"))
    (open_to_both,) = voting.findings(config_of(tmp_path, listen="10.9.0.3", boxes=["10.9.0.1", "10.9.0.2"]))

    assert (shut.is_good, open_to_both.is_good) == (False, True)
    assert "standby.boxes" in shut.fix
    assert open_to_both.text == "10.9.0.1 and 10.9.0.2 may ask"


def test_monitoring_gets_a_number_for_each_voter(tmp_path: Path) -> None:
    config = config_of(tmp_path, lease=True, peer="two", witness="three")
    tell(config, witness_answers=False)
    ledger = MemoryLedger(SystemClock())

    found = observed(config, ledger=ledger, supervisor=None, clock=SystemClock())
    alone = observed(config_of(tmp_path), ledger=ledger, supervisor=None, clock=SystemClock())

    numbers = {one.labels["voter"]: one.value for one in found if one.name == "sealift_lease_voter_answers"}
    assert numbers == {"other-box": 1, "witness": 0}
    assert not [one for one in alone if one.name == "sealift_lease_voter_answers"]


_NOT_BY_ITSELF = "does not serve; one holds term 1; it would not follow by itself"


@pytest.mark.parametrize(
    ("me", "witness", "expected"),
    [
        ("two", "three", f"{_NOT_BY_ITSELF}: the witness three does not answer"),
        (
            "two",
            "",
            f"{_NOT_BY_ITSELF}: the other box was not heard to go by the witness three since this one names it",
        ),
        ("three", "", "this box, three, is a witness: it grants and never serves; one holds term 1"),
    ],
)
def test_the_command_says_why_this_box_would_not_follow_and_what_a_witness_is(
    me: str, witness: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with short_folder() as root:
        file = root / "sealift.toml"
        file.write_text(f'format = 1\nsite = "demo"\n[places]\nroot = "{root}"\nrun = "{root}/run"\n')
        rules = Rules(seconds=3.0, witness="three" if me == "two" else "itself")
        keeper = Keeper(
            Lease(me=me, rules=rules, kept=Kept(term=1, holder="one", witness=witness), started=0.0),
            state=root,
            run=root,
            known=Voters(others={}, candidates=frozenset({"one"}), serves=me == "two"),
            address=NoAddress(),
            record=lambda *_: None,
        )
        door = unit.listening_at(configuration.load(file).at.socket("lease"))
        wire.serve({"lease": door}, lambda _, untrusted: keeper.command(untrusted))

        ended = typed(file, (standby,), capsys)("standby", "lease")
        door.close()

    assert (ended.code, expected in " ".join(ended.out.split())) == (0, True), ended
