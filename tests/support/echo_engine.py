"""llama.cpp's engine over a deterministic decoder, on a Unix socket in this process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from werkzeug.serving import WSGIRequestHandler, make_server

from appliance.serve.chat_template import ChatTemplate
from tests.support.decoder import EchoDecoder
from tests.support.engine import MODEL_DIGEST
from tests.support.engine_app import engine_app

_TEMPLATE: Final = "{% for m in messages %}{{ m.content }}{% endfor %}"


class _Handler(WSGIRequestHandler):
    """Answers as gunicorn does, whose streams are chunked."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Quiet."""


@contextmanager
def echo_engine(path: Path, *, decoder: EchoDecoder | None = None, source: str = _TEMPLATE) -> Iterator[EchoDecoder]:
    """Run the engine's application on a socket, over a decoder and with a template's source; yield what decodes."""
    decoder = decoder or EchoDecoder(context_tokens=4096, batch_tokens=64, sequences=4)
    app, scheduler = engine_app(
        decoder, ChatTemplate(source), model_digest=MODEL_DIGEST, stage="production", n_ctx=4096
    )
    server = make_server(f"unix://{path}", 0, app, threaded=True, request_handler=_Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield decoder
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
        scheduler.stop()
