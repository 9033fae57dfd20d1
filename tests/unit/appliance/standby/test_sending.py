"""What goes over the network is the bundle of a medium: sent in parts, proven from the inbox, and then gone from it."""

import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.actions.standby import keeping, sending
from appliance.audit.log import Log
from appliance.audit.memory import MemoryBackend
from appliance.config import Config
from appliance.errors import PairingRefusedError, WireError
from appliance.standby import channel, mirror
from appliance.standby.inbox import Inbox
from appliance.standby.pairing import require_paired
from appliance.standby.peers import Listener
from media.errors import MalformedError
from tests.support import boxes
from tests.support.boxes import first, second
from tests.support.promotion import Site, digest

__all__ = ["first", "second"]  # fixtures


@contextmanager
def reachable(first: Site, second: Site) -> Iterator[Config]:
    """Let the second box listen; yield the first one's site file with its address."""
    plain = socket.create_server(("127.0.0.1", 0))
    listener = Listener(
        plain,
        own=second.config.at.key_files / channel.KEY_FILE,
        known={"one": require_paired(second.config.at, "one").peer.channel},
        handler=Inbox(sending.inbox_of(second.config)).handle,
    )
    section = {"peer": "two", "peer_address": "127.0.0.1", "port": plain.getsockname()[1]}
    try:
        yield Config.model_validate({**first.config.model_dump(), "standby": section})
    finally:
        listener.close()


def send(first: Site, config: Config) -> sending.Sent:
    return sending.send(config, "two", ledger=first.ledger, keys=boxes.keys_of(first), clock=first.clock)


def test_each_turn_sends_only_what_the_other_box_lacks(first: Site, second: Site) -> None:
    with reachable(first, second) as config:
        whole = send(first, config)
        grown = sending.take_in(second.config, "one", ledger=second.ledger)
        nothing = send(first, config)
        first.promote(digest("version"))
        more = send(first, config)
        again = sending.take_in(second.config, "one", ledger=second.ledger)

    assert grown is not None
    assert again is not None
    assert (whole.start, grown.size) == (0, whole.size)
    assert nothing.start == nothing.size == whole.size
    assert (more.start, again.before, again.size) == (whole.size, whole.size, more.size)
    assert boxes.take(second, "one").people == 2
    assert sending.take_in(second.config, "one", ledger=second.ledger) is None


def test_what_came_by_medium_is_not_sent_again(first: Site, second: Site) -> None:
    made = boxes.bundle(first, "two")
    boxes.grow(second, made, "one")
    with reachable(first, second) as config:
        sending.inbox_of(second.config).mkdir(parents=True)
        assert sending.take_in(second.config, "one", ledger=second.ledger) is None  # the timer's turn

        first.promote(digest("version"))
        sent = send(first, config)
        grown = sending.take_in(second.config, "one", ledger=second.ledger)

    assert grown is not None
    assert (sent.start, grown.before) == (made.size, made.size)


def test_what_lies_there_while_a_medium_brings_more_ends_no_turn(first: Site, second: Site) -> None:
    with reachable(first, second) as config:
        send(first, config)
        first.promote(digest("version"))
        more = boxes.grow(second, boxes.bundle(first, "two", since=0), "one")

        assert sending.take_in(second.config, "one", ledger=second.ledger) is None

        assert send(first, config).start == more.size


def test_a_box_whose_old_disk_was_put_back_hears_that_the_other_one_holds_more_of_it(first: Site, second: Site) -> None:
    with reachable(first, second) as config:
        send(first, config)
        grown = sending.take_in(second.config, "one", ledger=second.ledger)
        assert grown is not None
        whole, emptied = (
            first.ledger.log,
            Log.open(MemoryBackend(), clock=first.clock, site="demo", signer=boxes.signer(first)),
        )
        first.ledger.log = emptied

        with pytest.raises(PairingRefusedError, match="this box lost records that two holds") as refused:
            send(first, config)

        assert str(grown.size) in refused.value.why
        assert "a fork" in refused.value.fix
        first.ledger.log = whole
        assert send(first, config).size == grown.size


def test_what_is_noted_of_the_other_box_follows_no_link_of_the_service_that_the_network_reaches(
    second: Site, tmp_path: Path
) -> None:
    inbox, secret = sending.inbox_of(second.config), tmp_path / "secret"
    inbox.mkdir(parents=True)
    secret.write_text("a key")
    secret.chmod(0o400)
    (inbox / "one.have").symlink_to(secret)

    sending.note_held(second.config, "one")

    assert secret.read_text() == "a key"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o400
    assert (inbox / "one.have").read_text() == "0\n"
    assert not (inbox / "one.have").is_symlink()


def test_a_mirror_that_nothing_was_taken_into_is_empty_and_ends_no_turn(first: Site, second: Site) -> None:
    inbox, box = sending.inbox_of(second.config), require_paired(second.config.at, "one").peer
    inbox.mkdir(parents=True)
    (inbox / "one.have").write_text("900\n")  # of the ledger that the box had before it was restored
    with mirror.Mirror(mirror.folder_of(second.config.at, box), box) as copy:
        assert copy.size == 0

    assert sending.take_in(second.config, "one", ledger=second.ledger) is None
    assert (inbox / "one.have").read_text() == "0\n"

    (mirror.folder_of(second.config.at, box) / "ledger.db").write_bytes(b"no database, and longer than a page " * 200)
    assert sending.take_in(second.config, "one", ledger=second.ledger) is None


def test_a_bundle_that_is_refused_leaves_the_inbox_and_is_sent_anew(first: Site, second: Site) -> None:
    with reachable(first, second) as config:
        send(first, config)
        leaves = sending.inbox_of(second.config) / "one.ready/leaves.jsonl"
        leaves.write_bytes(leaves.read_bytes()[:-2] + b"x\n")
        with pytest.raises(PairingRefusedError):
            sending.take_in(second.config, "one", ledger=second.ledger)
        assert sending.take_in(second.config, "one", ledger=second.ledger) is None
        send(first, config)

        assert sending.take_in(second.config, "one", ledger=second.ledger) is not None


def test_a_box_that_is_away_or_has_no_address_is_an_error_that_says_so(first: Site, second: Site) -> None:
    with reachable(first, second) as config:
        pass

    with pytest.raises(WireError, match="does not answer"):
        send(first, config)
    with pytest.raises(PairingRefusedError):
        send(first, first.config)


def test_two_who_take_in_at_once_are_no_fault(first: Site, second: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer's turn and a person's: whoever is later finds the bundle gone from the inbox."""
    with reachable(first, second) as config:
        send(first, config)
    grow = keeping.grow

    def meanwhile(*args: Any, **more: Any) -> keeping.Grown:
        monkeypatch.setattr(keeping, "grow", grow)
        assert sending.take_in(second.config, "one", ledger=second.ledger) is not None
        return grow(*args, **more)

    monkeypatch.setattr(keeping, "grow", meanwhile)
    later = sending.take_in(second.config, "one", ledger=second.ledger)

    assert later is not None
    assert later.before == later.size
    assert len(second.ledger.find(kind="standby.imported")) == 1


@pytest.mark.parametrize("body", [{}, {"size": "8", "root": "0" * 64}, {"size": -1}, {"size": 3, "root": 7}])
def test_what_the_other_box_says_of_this_one_in_another_shape_is_refused(
    first: Site, second: Site, body: dict[str, object]
) -> None:
    own = require_paired(second.config.at, "one").own.origin
    first.ledger.append("standby.imported", {"peer": "two", "sender": own, **body})
    made = boxes.bundle(first, "two")

    with pytest.raises(MalformedError, match=r"standby\.imported"):
        boxes.grow(second, made, "one")
    with pytest.raises(MalformedError, match=r"standby\.imported"):
        boxes.bundle(second, "one")
