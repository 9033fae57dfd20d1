"""The head of an engine's answer is read as http.client reads it, whatever the engine says."""

import http.client
import io
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gateway.connections import EngineConnection, _Response

_NAMES = st.sampled_from(
    ["Content-Length", "content-length", "Transfer-Encoding", "Connection", "keep-alive", "X-Engine", "a b", "", " x"]
)
_VALUES = st.sampled_from(
    ["5", "-1", "five", "", "chunked", "Chunked", "gzip", "close", "Keep-Alive", "  7 ", "ä", "\t"]
)
_LINES = st.one_of(
    st.builds("{}: {}".format, _NAMES, _VALUES),
    st.builds("{}:{}".format, _NAMES, _VALUES),
    st.sampled_from([" folded", "no header", "From me", "\tx: y"]),
)
_ENDS = st.sampled_from(["\r\n", "\r\n", "\r\n", "\n"])
_STATUS = st.sampled_from(
    [
        "HTTP/1.1 200 OK",
        "HTTP/1.0 200 OK",
        "HTTP/1.1 204 None",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503",
        "HTTP/2 200",
    ]
)


class _Said:
    def __init__(self, said: bytes) -> None:
        self._said = said

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._said)


def _read(kind: type[http.client.HTTPResponse], said: bytes) -> object:
    response = kind(_Said(said), method="POST")  # type: ignore[arg-type]
    try:
        response.begin()
        seen = (response.status, response.reason, response.version, response.length, response.will_close)
        return (*seen, response.headers.items(), response.read())
    except http.client.HTTPException as error:
        return type(error)


@given(
    status=_STATUS,
    lines=st.lists(st.tuples(_LINES, _ENDS), max_size=6),
    body=st.sampled_from(["", "0\r\n\r\n", "hello"]),
)
def test_any_head_is_read_as_http_client_reads_it(status: str, lines: list[tuple[str, str]], body: str) -> None:
    head = "".join(line + end for line, end in lines)
    said = f"{status}\r\n{head}\r\n{body}".encode("iso-8859-1")

    assert _read(_Response, said) == _read(http.client.HTTPResponse, said)


@pytest.mark.parametrize("count", [99, 100])
def test_a_head_of_too_many_lines_is_refused_where_http_client_does(count: int) -> None:
    said = b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * count + b"\r\n"

    assert _read(_Response, said) == _read(http.client.HTTPResponse, said)


def test_a_request_goes_out_with_its_length_and_an_answer_comes_back(tmp_path: Path) -> None:
    path, heard = tmp_path / "engine", []

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as caller:
            heard.append(caller.recv(4096))
            caller.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        connection = EngineConnection(path, connect_seconds=5, read_seconds=5)
        connection.post("/v1/chat/completions", b'{"a":1}', {"content-type": "application/json"})
        answer = connection.begun()
        said = answer.read()
        server.join()
        connection.close()

    assert (answer.status, said, answer.will_close) == (200, b"{}", False)
    head, _, body = heard[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        *(b"POST /v1/chat/completions HTTP/1.1", b"Host: localhost", b"Content-Length: 7"),
        b"content-type: application/json",
    ]
    assert body == b'{"a":1}'


@pytest.mark.parametrize("says", [b"", b"Connection: close\r\n"])
def test_closing_a_connection_closes_an_answer_that_was_not_read(tmp_path: Path, says: bytes) -> None:
    path = tmp_path / "engine"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        connection = EngineConnection(path, connect_seconds=5, read_seconds=5)
        connection.post("/", b"{}", {})
        with listener.accept()[0] as engine:
            engine.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" + says + b"\r\nhe")
            answer = connection.begun()
            connection.close()

            assert answer.isclosed()
            engine.settimeout(5)
            while engine.recv(4096):
                pass  # it would wait for ever, had anything kept the socket open
