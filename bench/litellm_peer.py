"""LiteLLM's proxy as a contestant: an environment of its own from bench/litellm.txt, one worker, nothing on."""

import hashlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.measuring import ROOT, run, say

_LOCK: Final = ROOT / "bench/litellm.txt"
_CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sealift/bench"
_PATIENCE_SECONDS: Final = 180


def environment() -> Path:
    """Return the folder of the environment, made now where the lock file has none."""
    digest = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:12]
    folder = _CACHE / f"litellm-{digest}"
    if not (folder / "made").exists():
        say("making an environment for LiteLLM; this takes minutes, once")
        run(sys.executable, "-m", "venv", "--clear", folder)
        pip = (folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run(*pip, "--require-hashes", "--no-deps", "-r", _LOCK)
        (folder / "made").touch()
    return folder


@contextmanager
def proxy(folder: Path, *, engine_port: int, port: int, model: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the proxy in front of an engine until the block ends: no keys, no limits, no log, no database."""
    config = folder / "litellm.yaml"
    config.write_text(
        f"model_list:\n  - model_name: {model}\n    litellm_params:\n      model: openai/{model}\n"
        f"      api_base: http://127.0.0.1:{engine_port}/v1\n      api_key: none\n"
        "litellm_settings:\n  telemetry: false\n  turn_off_message_logging: true\n"
    )
    made = environment()
    own = {
        **{name: os.environ[name] for name in ("LANG",) if name in os.environ},
        "PATH": f"{made / 'bin'}:{os.environ['PATH']}",
        "HOME": str(folder),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # none of what ours does is asked of it
        "NO_PROXY": "*",
    }
    words = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    with (folder / "litellm.log").open("wb") as log:
        process = subprocess.Popen([made / "bin/litellm", *words], env=own, stdout=log, stderr=log, cwd=folder)
    try:
        _wait(process, f"http://127.0.0.1:{port}/health/liveliness", folder / "litellm.log")
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    ends = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise SystemExit(f"LiteLLM ended: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own loopback
                if answer.status == 200:
                    return
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    raise SystemExit("LiteLLM does not answer")
