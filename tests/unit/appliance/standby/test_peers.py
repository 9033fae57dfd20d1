"""Boxes speak with each other over TLS with the certificates of their pairing, and with nobody else."""

import contextlib
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.actions.standby import keeping
from appliance.errors import ConfigError, NotActiveError, PairingRefusedError, WireError
from appliance.standby import channel, kept, permit, service
from appliance.standby.address import NoAddress
from appliance.standby.bundle import ENVELOPE_NAME, LEAVES_NAME
from appliance.standby.inbox import MOST_BYTES, Inbox
from appliance.standby.keeper import Keeper, Voters
from appliance.standby.lease import Kept, Lease, Rules
from appliance.standby.pairing import require_paired
from appliance.standby.peers import Handler, Listener, PeerLine, PeerRefusedError
from media.errors import MalformedError, UsageError
from tests.support import boxes
from tests.support.promotion import Site


@pytest.fixture
def first(tmp_path: Path) -> Site:
    return boxes.open_box(tmp_path / "one")


@pytest.fixture
def second(first: Site, tmp_path: Path) -> Site:
    second = boxes.open_box(tmp_path / "two")
    boxes.pair(first, second)
    return second


def key_of(box: Site) -> Path:
    return box.config.at.key_files / channel.KEY_FILE


@contextmanager
def listening(box: Site, peer: str, handler: Handler) -> Iterator[int]:
    """Let a box listen for its peer; yield the port."""
    plain = socket.create_server(("127.0.0.1", 0))
    certificate = require_paired(box.config.at, peer).peer.channel
    listener = Listener(plain, own=key_of(box), known={peer: certificate}, handler=handler)
    try:
        yield plain.getsockname()[1]
    finally:
        listener.close()


def line(box: Site, peer: str, port: int, *, own: Path | None = None, certificate: str = "") -> PeerLine:
    shown = certificate or require_paired(box.config.at, peer).peer.channel
    return PeerLine("127.0.0.1", port, own=own or key_of(box), name=peer, certificate=shown, timeout_seconds=20)


def echo(peer: str, untrusted: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"peer": peer, "said": untrusted.get("text")}


def test_a_paired_box_is_known_by_its_certificate(first: Site, second: Site) -> None:
    with listening(second, "one", echo) as port:
        own = line(first, "two", port)
        answers = [own.call("say", text=text) for text in ("a", "b")]
        own.close()

    assert answers == [{"peer": "one", "said": "a"}, {"peer": "one", "said": "b"}]


def test_nobody_else_gets_an_answer_and_no_other_box_is_spoken_to(first: Site, second: Site, tmp_path: Path) -> None:
    stranger = boxes.open_box(tmp_path / "three")
    boxes.card(stranger, "three")
    said: list[str] = []

    def note(peer: str, _: Mapping[str, Any]) -> Mapping[str, Any]:
        said.append(peer)
        return {}

    with listening(second, "one", note) as port:
        intruder = line(first, "two", port, own=key_of(stranger))
        with pytest.raises((WireError, PairingRefusedError)):
            intruder.call("say")
        impostor = boxes.card(stranger, "three").card.channel
        with pytest.raises((WireError, PairingRefusedError)):
            line(first, "two", port, certificate=impostor).call("say")
        with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
            plain.sendall(b'{"do":"say"}\n')
            with contextlib.suppress(ConnectionError):
                assert plain.recv(100)[:1] != b"{"

    assert said == []


def test_why_the_other_box_refused_is_told_and_nothing_in_it_is_obeyed_by_a_terminal(
    first: Site, second: Site, tmp_path: Path
) -> None:
    inbox = Inbox(tmp_path / "inbox")

    def hostile(peer: str, untrusted: Mapping[str, Any]) -> Mapping[str, Any]:
        if untrusted["do"] == "say":
            raise WireError(what="no\x1b]0;title\x07", why="because\u202e" + "x" * 999, fix="\x1b[2Jrun this")
        return inbox.handle(peer, untrusted)

    with listening(second, "one", hostile) as port:
        own = line(first, "two", port)
        with pytest.raises(PeerRefusedError) as large:
            own.call("put", name=LEAVES_NAME, offset=MOST_BYTES, data=boxes.b64(b"x"))
        with pytest.raises(PeerRefusedError) as unprintable:
            own.call("say")
        own.close()

    assert large.value.why == f"the bundle is not taken in: more than {MOST_BYTES} bytes: bring it on a medium"
    said = unprintable.value
    assert said.why.startswith("no ]0;title: because xx")
    assert (said.why + said.fix).isprintable()
    assert len(said.why) < 500
    assert "run this" not in said.fix


@pytest.mark.usefixtures("second")
def test_the_channel_is_tls_1_3_with_both_certificates(first: Site) -> None:
    peer = require_paired(first.config.at, "two").peer

    made = channel.context(key_of(first), [peer.channel], server=True)

    assert made.minimum_version is ssl.TLSVersion.TLSv1_3
    assert made.verify_mode is ssl.CERT_REQUIRED


def test_a_bundle_sent_in_parts_lies_in_the_inbox_as_it_was_and_is_taken_from_there(
    first: Site, second: Site, tmp_path: Path
) -> None:
    made, inbox = boxes.bundle(first, "two"), Inbox(tmp_path / "inbox")
    half = len(made.leaves) // 2
    parts = [
        (LEAVES_NAME, 0, made.leaves[:half]),
        (LEAVES_NAME, half, made.leaves[half:]),
        (ENVELOPE_NAME, 0, made.envelope),
    ]
    with listening(second, "one", inbox.handle) as port:
        own = line(first, "two", port)
        assert own.call("have") == {"size": 0, "root": ""}
        for name, offset, data in parts:
            own.call("put", name=name, offset=offset, data=boxes.b64(data))
        with pytest.raises(WireError, match="refused"):
            own.call("put", name=LEAVES_NAME, offset=3, data="")
        with pytest.raises(WireError, match="refused"):
            own.call("put", name="../other", offset=0, data="")
        assert own.call("done") == {"taken": True}
        own.close()

    envelope, leaves = keeping.read(tmp_path / "inbox/one.ready")
    assert (envelope, leaves) == (made.envelope, made.leaves)


def keeper_of(
    tmp_path: Path, lease: Lease, recorded: list[str], *, candidates: tuple[str, ...] = ("two",), serves: bool = True
) -> Keeper:
    """Return a keeper that nobody reaches, at second 1000."""
    return Keeper(
        lease,
        state=tmp_path,
        run=tmp_path,
        known=Voters(others={}, candidates=frozenset(candidates), serves=serves),
        address=NoAddress(),
        record=lambda kind, _: recorded.append(kind),
        now=lambda: 1000.0,
    )


def test_what_the_keeper_must_not_forget_is_on_the_disk_before_the_permit(tmp_path: Path) -> None:
    lease = Lease(me="one", rules=Rules(seconds=3.0), kept=Kept(), started=1000.0)
    recorded: list[str] = []
    keeper = keeper_of(tmp_path, lease, recorded)

    keeper.command({"do": "take-over", "by": ["Ana", "Ben"], "reason": "first start"})

    assert kept.load(tmp_path) == Kept(term=1, holder="one", alone=True)
    assert permit.read(tmp_path) == (1003.0, 1)
    keeper.stop()
    assert permit.read(tmp_path) == (0.0, 0)
    assert recorded == ["standby.people-took-over", "standby.took-over"]


def test_a_witness_that_both_go_by_is_kept_for_its_term_and_holder_alone(tmp_path: Path) -> None:
    bound = Kept(term=3, holder="one", witness="three")
    kept.store(tmp_path, bound)

    assert kept.load(tmp_path) == bound
    # As a release from before leaves it, which knows nothing of the other file.
    state = tmp_path / kept.STATE
    before = state.read_bytes()
    state.write_bytes(before.replace(b'"term":3', b'"term":4'))
    assert kept.load(tmp_path) == Kept(term=4, holder="one")
    state.write_bytes(before)
    (tmp_path / kept.WITNESS).write_bytes(b"{")
    assert kept.load(tmp_path) == Kept(term=3, holder="one")


@pytest.mark.parametrize("damage", [b"", b"{", b'{"alone":false,"format":1,"holder":"one","term":"3"}'])
def test_a_lease_that_does_not_read_says_what_people_do_and_begins_anew_once_put_aside(
    tmp_path: Path, damage: bytes
) -> None:
    (tmp_path / kept.STATE).write_bytes(damage)

    with pytest.raises(MalformedError, match="kept of the lease") as refused:
        kept.load(tmp_path)

    moved = f"mv /var/lib/sealift/standby/{kept.STATE} /var/lib/sealift/standby/{kept.STATE}.damaged"
    assert moved in refused.value.fix
    (tmp_path / kept.STATE).rename(tmp_path / f"{kept.STATE}.damaged")
    assert kept.load(tmp_path) == Kept()


def test_a_witness_that_is_not_named_any_more_is_forgotten_before_anybody_is_asked(tmp_path: Path) -> None:
    kept.store(tmp_path, Kept(term=3, holder="one", witness="three"))
    lease = Lease(me="one", rules=Rules(seconds=3.0), kept=kept.load(tmp_path), started=1000.0)

    keeper_of(tmp_path, lease, []).turn()

    assert kept.load(tmp_path) == Kept(term=3, holder="one")


def test_what_cannot_be_kept_on_the_disk_gives_no_permit(tmp_path: Path) -> None:
    lease = Lease(me="one", rules=Rules(seconds=3.0), kept=Kept(), started=1000.0)
    keeper = keeper_of(tmp_path / "absent", lease, [])

    with pytest.raises(OSError, match="absent"):
        keeper.command({"do": "take-over", "by": ["Ana", "Ben"], "reason": "first start"})

    assert permit.read(tmp_path / "absent") == (0.0, 0)


@pytest.mark.parametrize("do", ["ask", "resign", "hand"])
def test_a_paired_box_that_is_no_candidate_changes_nothing(tmp_path: Path, do: str) -> None:
    """The test appliance is paired and witnesses; taken over, it asks to serve, resigns for others or hands over."""
    before = Kept(term=1, holder="one", alone=True)
    lease = Lease(me="one", rules=Rules(seconds=3.0, witness="three"), kept=before, started=0.0)
    keeper = keeper_of(tmp_path, lease, [])

    with pytest.raises(WireError, match="may not ask"):
        keeper.handle("three", {"do": do, "term": 9, "leased": True, "run": ""})

    assert lease.kept == before


def test_a_witness_grants_and_cannot_be_made_to_serve(tmp_path: Path) -> None:
    lease = Lease(me="three", rules=Rules(seconds=3.0, witness="itself"), kept=Kept(), started=0.0)
    keeper = keeper_of(tmp_path, lease, [], serves=False, candidates=("one", "two"))

    assert keeper.handle("one", {"do": "ask", "term": 1, "leased": True, "run": ""})["granted"] is True
    assert keeper.handle("two", {"do": "ask", "term": 2, "leased": True, "run": ""})["granted"] is False
    with pytest.raises(WireError, match="may not ask"):
        keeper.handle("one", {"do": "hand", "term": 2})
    with pytest.raises(UsageError):
        keeper.command({"do": "take-over", "by": ["Ana", "Ben"], "reason": "why not"})
    assert keeper.command({"do": "lease"})["is_witness"] is True


def test_a_box_without_a_lease_serves_by_none_and_is_no_witness(tmp_path: Path) -> None:
    lease = Lease(me="one", rules=Rules(seconds=3.0), kept=Kept(), started=0.0)

    assert keeper_of(tmp_path, lease, [], serves=False).command({"do": "lease"})["is_witness"] is False


def test_a_permit_that_is_past_cut_or_absent_permits_nothing(tmp_path: Path) -> None:
    until = permit.boottime() + 3600
    permit.write(tmp_path, until=until, term=4)
    permit.FilePermit(tmp_path).require()

    for content in (b"", b"{", b'{"term":4,"until_milliseconds":1}', b'{"term":4}'):
        (tmp_path / permit.FILE).write_bytes(content)
        with pytest.raises(NotActiveError, match="does not serve"):
            permit.FilePermit(tmp_path).require()
    permit.take_away(tmp_path)
    with pytest.raises(NotActiveError, match="does not serve"):
        permit.FilePermit(tmp_path).require()


def test_a_box_listens_where_it_will_have_an_address_and_says_when_a_port_is_taken() -> None:
    """Scenario: the power comes back, and the machine boots before its network gives it the address."""
    with service.listening("192.0.2.7", 0) as early:
        assert early.getsockname()[0] == "192.0.2.7"
        with pytest.raises(ConfigError, match=r"standby\.listen"):
            service.listening("192.0.2.7", early.getsockname()[1])


@pytest.mark.parametrize("days", [-4000, 4000])
def test_a_clock_that_is_far_off_does_not_cut_the_pair(tmp_path: Path, days: int) -> None:
    """The certificate is compared whole with the one of the pairing; what the clock says takes nothing from that."""
    first, second = boxes.open_box(tmp_path / "one"), boxes.open_box(tmp_path / "two")
    for box in (first, second):
        box.clock.advance(days * 24 * 3600)
        boxes.card(box, "one" if box is first else "two")
        box.clock.advance(-days * 24 * 3600)
    boxes.pair(first, second)

    with listening(second, "one", echo) as port:
        own = line(first, "two", port)
        answer = own.call("say", text="a")
        own.close()

    assert answer == {"peer": "one", "said": "a"}
