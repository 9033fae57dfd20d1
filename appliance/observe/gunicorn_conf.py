"""How gunicorn runs the two units that observe. Reviewed like code: no access log, one worker, short requests."""

import socket
import struct
from typing import Any, Final

from appliance.watchdog import leaving
from appliance.watchdog.workers import HEARTBEATS, WorkerWatch

_SILENCE: Final = struct.pack("@ll", 15, 0)

workers = 1
worker_class = "gthread"
# More than what asks at one time: an answer may wait for a ledger that is starting again.
threads = 8
timeout = 30
graceful_timeout = 5
keepalive = 5
accesslog = None
errorlog = "-"
loglevel = "error"
umask = 0o007
limit_request_line = 1024
limit_request_fields = 40
preload_app = False
worker_tmp_dir = HEARTBEATS
control_socket_disable = True

_watch: Final = WorkerWatch()
when_ready = _watch.when_ready
pre_fork = _watch.pre_fork
worker_exit = leaving.worker
on_exit = leaving.master


def post_worker_init(worker: Any) -> None:
    """Wait for no half request for ever."""
    _watch.post_worker_init(worker)
    for listener in worker.sockets:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _SILENCE)
