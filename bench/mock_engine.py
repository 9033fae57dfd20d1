"""An engine that costs nothing: it says the same at once, or a chunk every INTERVAL milliseconds with the time in it.

python -m bench.mock_engine SOCKET PORT listens on both. What a request wants is in its last message: `stream COUNT
MILLISECONDS` says how, `idle` begins a stream and says nothing more; a stream of anything else is the whole answer in a
few chunks at once. Each chunk of the first is the machine's monotonic nanoseconds at the moment it was sent, so whoever
reads it knows how long it took.
"""

import asyncio
import json
import sys
import time

_MODEL = "smollm2-135m"
_WHOLE = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": _MODEL,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Stable, no fever."}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17},
    }
).encode()
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _event(delta: dict[str, str], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    value = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": _MODEL, "choices": [choice]}
    return _chunk(b"data: " + json.dumps(value).encode() + b"\n\n")


def _usage() -> bytes:
    value = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": _MODEL, "choices": []}
    return _chunk(b"data: " + json.dumps(value | {"usage": json.loads(_WHOLE)["usage"]}).encode() + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def _stream(writer: asyncio.StreamWriter, words: list[str]) -> None:
    writer.write(_STREAM + _event({"role": "assistant", "content": ""}))
    await writer.drain()
    if words[0] == "idle":
        writer.write(_event({"content": "wait "}))
        await writer.drain()
        await asyncio.sleep(3600)
        return
    if words[0] != "stream":
        writer.write(b"".join(_event({"content": word}) for word in ("Stable,", " no", " fever.")))
        writer.write(_event({}, "stop") + _usage() + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()
        return
    count, interval = int(words[1]), float(words[2]) / 1000
    for _ in range(count):
        await asyncio.sleep(interval)
        writer.write(_event({"content": f"{time.monotonic_ns()} "}))
        await writer.drain()
    writer.write(_event({}, "stop") + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
    await writer.drain()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = 0
            for line in head.split(b"\r\n"):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            body = json.loads(await reader.readexactly(length)) if length else {}
            if body.get("stream"):
                await _stream(writer, str(body["messages"][-1]["content"]).split())
            else:
                writer.write(_HEAD % len(_WHOLE) + _WHOLE)
                await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def _main(path: str, port: int) -> None:
    servers = [
        await asyncio.start_unix_server(_serve, path, backlog=1024),
        await asyncio.start_server(_serve, "127.0.0.1", port, backlog=1024),
    ]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
