"""The wire itself: many lines in flight, rubbish between them, clients that leave or do not listen."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from itertools import islice

import pytest

from appliance.audit import socket_ledger
from appliance.audit.client import SocketLedger
from appliance.audit.doors import Doors
from appliance.audit.log import Log
from appliance.audit.writer import Writer
from appliance.errors import LedgerRefusedError
from appliance.wire import MAX_LINE_BYTES, Peer
from tests.support.ledger import LedgerSite, intent


@pytest.fixture
def log(site: LedgerSite) -> Iterator[Log]:
    with site.running() as running:
        yield running


@pytest.fixture
def line(site: LedgerSite, log: Log) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(10)
        client.connect(str(site.places.socket("ledger-gateway")))
        yield client


def append(number: int, key: str = "") -> bytes:
    body = intent(f"req_{number}")
    return json.dumps({"do": "append", "kind": "request.intent", "body": body, "key": key}).encode() + b"\n"


def answers(client: socket.socket, count: int) -> list[dict[str, object]]:
    with client.makefile("rb") as received:
        return [json.loads(line) for line in islice(received, count)]


def test_lines_in_flight_are_answered_in_their_order(line: socket.socket) -> None:
    line.sendall(append(1) + append(2) + b'{"do":"head"}\n' + append(3) + b'{"do":"nothing"}\n' + append(4))

    found = answers(line, 6)

    assert [next(iter(one)) for one in found] == ["ok", "ok", "ok", "ok", "error", "ok"]
    sequences = [one["ok"]["sequence"] for one in found if "sequence" in str(one.get("ok"))]  # type: ignore[index]
    assert sequences == sorted(sequences)
    assert "root" in str(found[2])


def test_rubbish_is_answered_with_an_error_and_harms_nobody(line: socket.socket, log: Log) -> None:
    rubbish = (
        b"\n",
        b"nonsense\n",
        b"[]\n",
        b"null\n",
        b"{}\n",
        b'{"do":7}\n',
        b'{"do":"append"}\n',
        b'{"do":"append","kind":5,"body":{}}\n',
        b'{"do":"append","kind":"request.intent","body":[]}\n',
        b'{"do":"append","kind":"request.intent","body":{"x":NaN}}\n',
        b'{"do":"append","kind":"request.intent","body":{"x":1e400}}\n',
        b'{"do":"append","kind":"request.intent","body":{"x":"\\ud800"}}\n',
        b'{"do":"append","kind":"request.intent","body":{},"key":5}\n',
        b'{"do":"append","kind":"request.intent","body":{},"key":"' + b"k" * 65 + b'"}\n',
        b'{"do":"append","kind":"request.intent","body":{},"key":"\\ud800"}\n',
        b'{"do":"append","kind":"ledger.opened","body":{}}\n',
        b'{"do":"leaf"}\n',
        b'{"do":"leaf","sequence":-1}\n',
        b'{"do":"leaf","sequence":true}\n',
        b'{"do":"leaf","sequence":99999}\n',
        b'{"do":"leaves","start":0}\n',
        b'{"do":"leaves","start":0,"limit":1,"kinds":"x"}\n',
        b'{"do":"find","kind":5}\n',
        b'{"do":"find","field":"x","value":[]}\n',
        b'{"do":"inclusion","sequence":0,"size":"x"}\n',
        b'{"do":"inclusion","sequence":5,"size":1}\n',
        b'{"do":"consistency","old":9}\n',
        b'{"do":"' + b"[" * 5000 + b"\n",
        b"\xff\xfe\n",
    )
    before = log.head().size
    line.sendall(b"".join(rubbish) + append(1))

    found = answers(line, len(rubbish) + 1)

    assert all("error" in one for one in found[:-1])
    assert {one["error"]["code"] for one in found[:-1]} <= {"wire", "ledger-refused", "usage", "proof"}  # type: ignore[index]
    assert "ok" in found[-1]
    assert log.head().size == before + 1


def test_a_line_without_end_is_cut_off(line: socket.socket, site: LedgerSite) -> None:
    def push() -> None:
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            line.sendall(b"x" * 3 * MAX_LINE_BYTES)

    pusher = threading.Thread(target=push)
    pusher.start()
    found = answers(line, 1)
    pusher.join()

    assert str(MAX_LINE_BYTES) in str(found[0]["error"])
    other = site.door("ledger-gateway")
    assert other.head().size > 0
    other.close()


def test_a_line_may_come_in_pieces(line: socket.socket) -> None:
    whole = append(1)
    for start in range(0, len(whole), 7):
        line.sendall(whole[start : start + 7])

    assert "ok" in answers(line, 1)[0]


def test_a_client_that_leaves_before_its_answers_is_forgotten(site: LedgerSite, log: Log) -> None:
    for number in range(20):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(site.places.socket("ledger-gateway")))
            client.sendall(append(number, f"key{number}") + b'{"do":"leaves","start":0,"limit":9}\n')
    ledger = site.door("ledger-gateway")

    again = [ledger.append("request.intent", intent(f"req_{number}"), key=f"key{number}") for number in range(20)]

    assert len({one.sequence for one in again}) == 20
    assert len(ledger.find("request.intent", limit=100)) == 20
    ledger.close()


def test_a_client_that_does_not_read_holds_up_nobody_and_loses_nothing(line: socket.socket, site: LedgerSite) -> None:
    other = site.door("ledger-gateway")
    other.append_many([("request.intent", intent(f"old_{number}", text="x" * 1000)) for number in range(200)])
    question = b'{"do":"leaves","start":0,"limit":200}\n'
    line.sendall(question * 20)

    assert other.append("request.intent", intent("new")).sequence > 200

    assert len(answers(line, 20)) == 20
    other.close()


def test_many_writers_at_once_get_every_record_acknowledged_once(site: LedgerSite, log: Log) -> None:
    ledger = site.door("ledger-gateway")
    acknowledged: list[int] = []

    def write(writer: int) -> None:
        records = [("request.intent", intent(f"req_{writer}_{number}")) for number in range(40)]
        acknowledged.extend(one.sequence for one in ledger.append_many(records))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(acknowledged)) == 16 * 40
    assert {leaf.sequence for leaf in log.leaves(0, 1000, kinds=["request.intent"])} == set(acknowledged)
    ledger.close()


def test_more_records_than_fit_in_flight_are_sent_in_turns(site: LedgerSite, log: Log) -> None:
    ledger = site.door("ledger-gateway")

    found = ledger.append_many([("request.intent", intent(f"req_{number}")) for number in range(700)])

    assert [one.sequence for one in found] == list(range(found[0].sequence, found[0].sequence + 700))
    ledger.close()


def test_long_answers_come_in_pages_that_the_client_joins(site: LedgerSite, log: Log) -> None:
    ledger = site.door("ledger-gateway")
    ledger.append_many([("request.intent", intent(f"req_{n}", n=n, text="x" * 900_000)) for n in range(6)])

    forward = ledger.leaves(0, 100, kinds=["request.intent"])
    newest = ledger.find("request.intent", limit=5)
    oldest = ledger.find("request.intent", limit=5, newest_first=False)

    assert [leaf.body["n"] for leaf in forward] == [0, 1, 2, 3, 4, 5]
    assert [leaf.body["n"] for leaf in newest] == [5, 4, 3, 2, 1]
    assert [leaf.body["n"] for leaf in oldest] == [0, 1, 2, 3, 4]
    ledger.close()


def test_one_refused_record_among_many_is_told(site: LedgerSite, log: Log) -> None:
    ledger = site.door("ledger-gateway")

    with pytest.raises(LedgerRefusedError, match="admin"):
        ledger.append_many([("request.intent", intent("a")), ("admin.login", {}), ("request.intent", intent("b"))])

    assert len(ledger.find("request.intent")) == 2
    ledger.close()


def test_a_client_finds_a_ledger_that_was_started_anew(site: LedgerSite) -> None:
    ledger = site.door("ledger-gateway")
    with site.running():
        first = ledger.append("request.intent", intent("a"), key="k")
    with site.running():
        again = ledger.append("request.intent", intent("a"), key="k")
        origin = ledger.head().origin

    assert again == first
    assert origin.startswith("sealift/demo/")
    ledger.close()


def test_who_may_not_enter_is_told_so_and_shown_out(site: LedgerSite, log: Log) -> None:
    def admit(peer: Peer) -> None:
        raise LedgerRefusedError(what=f"user {peer.uid} may not use the door {peer.door}")

    path = site.places.run / "closed.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    writer = Writer(log, on_failure=lambda: None)
    writer.start()
    doors = Doors({"ledger-gateway": listener}, log=log, writer=writer, admit=admit)
    doors.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall(append(1) + append(2))
        (found,) = answers(client, 9)
    doors.stop()
    writer.stop()

    assert "may not use" in str(found["error"])
    assert log.find(kind="request.intent") == []


def test_a_client_serves_a_child_process_on_a_connection_of_its_own(site: LedgerSite, log: Log) -> None:
    ledger = SocketLedger(site.places.socket("ledger-gateway"))
    ledger.head()
    ledger._pool._owner = -1

    assert ledger.head().size > 0
    assert len(ledger._pool._idle) == 1
    ledger.close()


def test_more_leaves_than_one_answer_holds_are_asked_for_in_turns(site: LedgerSite, log: Log) -> None:
    ledger = site.door("ledger-gateway")
    ledger.append_many([("request.intent", intent(f"req_{number}", n=number)) for number in range(2300)])

    assert [leaf.body["n"] for leaf in ledger.leaves(0, 10**9, kinds=["request.intent"])] == list(range(2300))
    assert len(ledger.leaves(0, 2100)) == 2100
    assert [leaf.body["n"] for leaf in ledger.find("request.intent", limit=2200)] == list(range(2299, 99, -1))
    ledger.close()


def test_a_process_that_forks_makes_no_key_of_its_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = socket_ledger._Keys()
    found = [keys.following() for _ in range(3)]
    monkeypatch.setattr(os, "getpid", lambda: 0)
    found += [keys.following() for _ in range(3)]

    assert len(set(found)) == len(found)
    assert len({key.partition("-")[0] for key in found}) == 2
