"""The watch on callers' sockets."""

import socket
import threading

import pytest

from appliance.gateway.disconnect import (
    SILENCE_SECONDS,
    DisconnectWatch,
    bound_waits,
    caller_socket,
    leaving,
)

PATIENCE_SECONDS = 30


def _environ(server: socket.socket) -> dict[str, object]:
    return {"gunicorn.socket": server}


def test_a_caller_that_closes_is_noticed() -> None:
    watch = DisconnectWatch()
    for family in ("close", "shutdown"):
        client, server = socket.socketpair()
        gone = threading.Event()
        with client, server:
            stop = watch.watch(_environ(server), gone.set)
            client.sendall(b"more of a request is no goodbye")
            assert not gone.wait(0.05)
            client.close() if family == "close" else client.shutdown(socket.SHUT_WR)
            assert gone.wait(PATIENCE_SECONDS)
            stop()


def test_a_caller_that_left_before_the_watch_began_is_noticed() -> None:
    client, server = socket.socketpair()
    client.close()
    gone = threading.Event()
    with server:
        stop = DisconnectWatch().watch(_environ(server), gone.set)
        assert gone.wait(PATIENCE_SECONDS)
        stop()


def test_whoever_has_a_request_can_see_its_caller_leave() -> None:
    client, server = socket.socketpair()
    with server:
        has_left = leaving(_environ(server))
        client.sendall(b"more of a request is no goodbye")
        assert not has_left()
        client.close()
        assert has_left()
    assert not leaving({})(), "nobody to look at"


def test_callers_are_noticed_after_a_thread_had_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = DisconnectWatch()
    client, server = socket.socketpair()
    gone = threading.Event()
    with client, server:
        with monkeypatch.context() as none:
            none.setattr(threading.Thread, "start", _refused)
            with pytest.raises(RuntimeError, match="no room"):
                watch.watch(_environ(server), gone.set)
        stop = watch.watch(_environ(server), gone.set)
        client.close()
        assert gone.wait(PATIENCE_SECONDS)
        stop()


def _refused(_: threading.Thread) -> None:
    raise RuntimeError("no room")


def test_nothing_is_called_after_the_watch_ended() -> None:
    watch = DisconnectWatch()
    client, server = socket.socketpair()
    gone = threading.Event()
    with client, server:
        watch.watch(_environ(server), gone.set)()
        client.close()
        assert not gone.wait(0.1)


def test_a_socket_whose_number_is_used_again_is_watched_anew() -> None:
    watch = DisconnectWatch()
    for _ in range(50):
        client, server = socket.socketpair()
        gone = threading.Event()
        with client, server:
            stop = watch.watch(_environ(server), gone.set)
            assert not gone.is_set()
            stop()
            stop = watch.watch(_environ(server), gone.set)
            client.close()
            assert gone.wait(PATIENCE_SECONDS)
            stop()


def test_the_last_watch_of_a_caller_counts() -> None:
    watch = DisconnectWatch()
    client, server = socket.socketpair()
    first, last = threading.Event(), threading.Event()
    with client, server:
        watch.watch(_environ(server), first.set)
        stop = watch.watch(_environ(server), last.set)
        client.close()
        assert last.wait(PATIENCE_SECONDS)
        assert not first.is_set()
        stop()


def test_a_server_that_shows_no_socket_is_not_watched() -> None:
    closed = socket.socket()
    closed.close()

    DisconnectWatch().watch({}, lambda: None)()
    assert caller_socket({"gunicorn.socket": closed}) is None
    bound_waits({})


def test_no_read_or_write_waits_for_ever() -> None:
    client, server = socket.socketpair()
    with client, server:
        bound_waits(_environ(server))

        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            seconds = int.from_bytes(server.getsockopt(socket.SOL_SOCKET, option, 16)[:8], "little")
            assert seconds == SILENCE_SECONDS
