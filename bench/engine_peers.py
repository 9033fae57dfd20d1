"""The contestants of `bench.engine`: where each runs, on what they run, and how a caller reaches ours."""

import hashlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.serve.client import EngineClient
from bench.measuring import ROOT, run, say
from bundler.quantlevels import LEVELS
from media.errors import SealiftError
from media.llamaprofile import LlamaSettings
from tests.support.engine_process import engine_site
from tests.support.real_engine import DEMO
from tests.support.versions import store_version

CHILD: Final = ROOT / "bench/engine_child.py"
PLACES: Final = 32
CONTEXT: Final = 512
"""Tokens that a place may fill: a short question and its answer."""
SUBJECTS: Final = ("the sea", "a lighthouse", "winter", "an old map", "bread", "a railway", "chalk", "rain")
"""What questions are about; those of one caller differ by a number as well."""
BATCH: Final = 512
"""Tokens that our engine reads in one step at most."""
LARGE_PAGES: Final = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""What our engine's unit is started with (`systemd/`)."""
_LOCK: Final = ROOT / "bench/engine.txt"
_CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sealift/bench"
_PATIENCE_SECONDS: Final = 180
# A recipe asks for no BF16: a source that has it is served as it is.
_FILE_TYPES: Final[dict[str, int]] = {"BF16": 32} | {str(name): level.file_type for name, level in LEVELS.items()}
_QUANTIZE: Final = ROOT / "bundler/sources/quantize_child.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Our engine's unit: where it listens, and the process that all of its others are below."""

    socket: Path
    pid: int


class UnixConnection(http.client.HTTPConnection):
    """A caller's connection to a server's Unix socket.

    Args:
        path: Where it listens.
        timeout: Of connecting, and of each read.
    """

    def __init__(self, path: Path, *, timeout: float) -> None:
        super().__init__("engine", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect; a request does so by itself where nobody did.

        Raises:
            OSError: Nobody listens there.
        """
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def connection_to(at: int | Path, *, timeout: float) -> http.client.HTTPConnection:
    """Return a connection of a caller's own to a port of loopback or a Unix socket; its first request connects it."""
    if isinstance(at, int):
        return http.client.HTTPConnection("127.0.0.1", at, timeout=timeout)
    return UnixConnection(at, timeout=timeout)


def shipped(pattern: str) -> list[Path]:
    """Return the files that the demo carried, on any of its volumes.

    Raises:
        SystemExit: There are none.
    """
    found = sorted(DEMO.glob(f"media/volume-*/release/data/{pattern}"))
    if not found:
        raise SystemExit("error: there is no demo\n  fix: run `make demo` first")
    return found


def interpreter() -> Path:
    """Return the interpreter of the environment that the demo installed for the engine."""
    return max((DEMO / "appliance/opt/sealift/releases").glob("*/engine-llama-cpp/bin/python"))


def peers() -> Path:
    """Return an interpreter that has the peers, and llama-cpp-python from the very wheel that travelled."""
    (wheel,) = shipped("wheels/llama_cpp_python-*.whl")
    digest = hashlib.sha256(_LOCK.read_bytes() + wheel.read_bytes()).hexdigest()[:12]
    folder = _CACHE / f"engines-{digest}"
    if not (folder / "made").exists():
        say("making an environment for the peers, once")
        run(sys.executable, "-m", "venv", "--clear", folder)
        pip = (folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run(*pip, "--require-hashes", "--no-deps", "-r", _LOCK)
        names = ("diskcache", "jinja2", "markupsafe", "pyyaml")
        run(*pip, "--no-deps", "--no-index", wheel, *(shipped(f"wheels/{name}-*.whl")[0] for name in names))
        (folder / "made").touch()
    return folder / "bin/python"


def weights(folder: Path, quantization: str) -> Path:
    """Return the demo's model at one of llama.cpp's levels; the shipped one is Q4_1."""
    (carried,) = shipped("models/smollm2-135m-instruct/*.gguf")
    if quantization == "Q4_1":
        return carried
    made = folder / f"{quantization}.gguf"
    run(peers(), _QUANTIZE, carried, made, str(_FILE_TYPES[quantization]), "1", str(os.cpu_count() or 1))
    return made


@contextmanager
def ours(model: Path, *, threads: int) -> Iterator[Running]:
    """Run our engine's unit over a version of these weights. No gateway is before it."""
    (template,) = shipped("models/smollm2-135m-instruct/*.jinja")
    with engine_site() as site:
        with site.at.config_file.open("a") as stream:
            stream.write(f"[engine]\nthreads = {threads}\nstart_seconds = {_PATIENCE_SECONDS}\n")
        _, descriptor = store_version(
            site,
            weights=model.read_bytes(),
            template=template.read_bytes(),
            n_ctx=PLACES * CONTEXT,
            n_seq_max=PLACES,
            n_batch=BATCH,
            llama_cpp=LlamaSettings(kv_unified=False).to_json(),
        )
        name = f"test-{descriptor.model_digest[:12]}"
        program = "import sys; sys.path.insert(0, sys.argv.pop(1)); from appliance.serve.launcher import main; main()"
        words: Sequence[object] = ("-I", "-c", program, ROOT, "--config", site.at.config_file, "--instance", name)
        with _running([interpreter(), *words], site.at.run / "engine.log", **LARGE_PAGES) as process:
            place = site.at.socket(f"engine-{name}")
            _until(process, lambda: _answers(place=place), site.at.run / "engine.log")
            yield Running(socket=place, pid=process.pid)


@contextmanager
def peer(kind: str, model: Path, *, threads: int, port: int, log: Path) -> Iterator[int]:
    """Run `server` or `cpp` on a port of loopback; yield the port."""
    own = (CONTEXT * 2,) if kind == "server" else (PLACES, PLACES * CONTEXT)
    with _running([peers(), CHILD, kind, model, port, threads, *own], log) as process:
        _until(process, lambda: _answers(port=port), log)
        yield port


def loop(model: Path, *, threads: int, sequences: int, steps: int, prompt: int, own: int) -> tuple[float, float]:
    """Return the tokens a second of the bare loop: of its steps alone, and with `own` tokens of each prompt read."""
    command = [str(one) for one in (peers(), CHILD, "loop", model, threads, sequences, steps, prompt, own)]
    alone, whole = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-2:]
    return float(alone), float(whole)


@contextmanager
def _running(command: Sequence[object], log: Path, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
    own = {"PATH": os.environ["PATH"], "HOME": str(log.parent), "PYTHONDONTWRITEBYTECODE": "1", **more}
    with log.open("wb") as stream:
        process = subprocess.Popen([str(one) for one in command], env=own, stdout=stream, stderr=stream, cwd=log.parent)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(*, place: Path | None = None, port: int = 0) -> bool:
    if place is not None:
        with suppress(SealiftError), EngineClient(place) as client:
            return client.health()
        return False
    with suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/v1/models")
        return connection.getresponse().status == 200
    return False


def _until(process: "subprocess.Popen[bytes]", holds: Callable[[], bool], log: Path) -> None:
    ends = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise SystemExit(f"error: a contestant ended: {log.read_text(errors='replace')[-2000:]}")
        if holds():
            return
        time.sleep(0.1)
    raise SystemExit(f"error: a contestant does not answer: {log.read_text(errors='replace')[-2000:]}")
