"""How gunicorn runs the gateway. Reviewed like code.

One worker, so that limits are exact; a thread for each answer; no access log; the application is made after the fork.
Sockets come by LISTEN_FDS; without them (a developer's shell) the gateway listens on its own Unix socket.
"""

import sys
from typing import Any, Final

from prometheus_client import start_http_server

from appliance import cycles
from appliance.config import Config
from appliance.gateway.application import running
from appliance.gateway.lagging import MOST_CALLERS, MOST_HURRIED
from appliance.gateway.lingering import LingeringWorker, let_go
from appliance.gateway.logs import Event, Log
from appliance.gateway.onecore import keep_to_one_core
from appliance.gateway.openfiles import allow_files
from appliance.gateway.settings import load_config, require_keys
from appliance.stages import Stage
from appliance.watchdog import leaving
from appliance.watchdog.workers import HEARTBEATS, STOP_SECONDS, WorkerWatch
from media.clock import SystemClock
from media.errors import SealiftError

# Threads beyond those of callers that are answered, wait or read slowly, so that health and refusals never wait behind
# them.
_HEADROOM: Final = 16


def _config() -> Config:
    """Read site file and keys before anything starts; the unit's RestartPreventExitStatus= knows these exit codes."""
    try:
        config = load_config()
        require_keys(config)
    except SealiftError as error:
        sys.stderr.write(f"{error.what}\n  why {error.why}\n  fix {error.fix}\n")
        raise SystemExit(error.exit_code) from None
    return config


_site = _config()

wsgi_app = "appliance.gateway.wsgi:app"
_name: Final = "gateway" if _site.at.stage is Stage.PRODUCTION else f"gateway-{_site.at.stage}"
bind = f"unix:{_site.at.socket(_name)}"
umask = 0o007
workers = 1
worker_class = LingeringWorker
threads = _site.limits.concurrent_requests + _site.limits.queue_length + MOST_CALLERS + MOST_HURRIED + _HEADROOM
worker_connections = threads + 1024  # which are kept between two requests
# A connection of each caller, one to an engine and one to the ledger of each thread, and what Python has open.
_files: Final = worker_connections + 2 * threads + 256
timeout = 60
graceful_timeout = STOP_SECONDS
keepalive = 75
limit_request_line = 4094
limit_request_fields = 60
limit_request_field_size = 8190
accesslog = None
errorlog = "-"
# Below this gunicorn quotes header lines and paths of requests it cannot parse, which may hold a key.
loglevel = "error"
proc_name = f"sealift-{_name}"
preload_app = False
worker_tmp_dir = HEARTBEATS
control_socket_disable = True

_watch: Final = WorkerWatch()
when_ready = _watch.when_ready
pre_fork = _watch.pre_fork
post_request = let_go
on_exit = leaving.master


def post_fork(_server: Any, _worker: Any) -> None:
    """Choose the worker's core before it begins its first thread, and let it open as many files as it may need."""
    keep_to_one_core()
    allow_files(_files)


def post_worker_init(worker: Any) -> None:
    """Serve metrics on loopback in the worker; a box's unit has no network, and has them on its own socket."""
    _watch.post_worker_init(worker)
    worker.on_stop = running(worker.wsgi).watch.stop
    worker.on_overdue = running(worker.wsgi).watch.end
    running(worker.wsgi).batches.start()
    running(worker.wsgi).refusals.start()
    cycles.search_seldom()
    port = _site.service.metrics_port
    if not port:
        return
    log = Log(SystemClock())
    try:
        start_http_server(port, addr="127.0.0.1", registry=running(worker.wsgi).metrics.registry)
    except OSError as error:
        log.note(Event.METRICS_UNAVAILABLE, error=error.strerror or type(error).__name__)


def worker_exit(_server: Any, worker: Any) -> None:
    """Record what is still counted."""
    try:
        running(worker.wsgi).close()
    except (AttributeError, SealiftError):
        return
