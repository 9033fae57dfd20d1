"""How gunicorn runs the page. Reviewed like code: no access log, one worker (sessions live in it), short requests."""

import socket
import struct
from typing import Any, Final

from appliance.watchdog import leaving
from appliance.watchdog.workers import HEARTBEATS, WorkerWatch

_SILENCE: Final = struct.pack("@ll", 15, 0)

workers = 1
worker_class = "gthread"
threads = 8
timeout = 30
graceful_timeout = 10
keepalive = 5
accesslog = None
errorlog = "-"
loglevel = "warning"
proc_name = "sealift-admin"
umask = 0o007
limit_request_line = 4094
limit_request_fields = 60
preload_app = False
worker_tmp_dir = HEARTBEATS
control_socket_disable = True

_watch: Final = WorkerWatch()
when_ready = _watch.when_ready
pre_fork = _watch.pre_fork
worker_exit = leaving.worker
on_exit = leaving.master


def post_worker_init(worker: Any) -> None:
    """Wait for no half request for ever: loopback inherits this of the listener, and a box has nginx in front."""
    _watch.post_worker_init(worker)
    for listener in worker.sockets:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _SILENCE)
