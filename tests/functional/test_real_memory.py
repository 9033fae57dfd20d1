"""What the demo's engine really takes of memory with SmolLM2 stays below what was computed, and not far below."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from appliance import config as configuration
from appliance.registry.descriptor import ModelDescriptor
from appliance.registry.memory import need_of
from appliance.serve.client import EngineClient
from media import canonical
from tests.support.engine_process import wait_ready
from tests.support.installable import store_release
from tests.support.versions import short_folder, version_files

pytestmark = pytest.mark.demo

DEMO = Path(os.environ.get("SEALIFT_DEMO", str(Path(__file__).resolve().parents[2] / "build/demo")))
N_CTX, N_BATCH = 4096, 512


def shipped(model: str) -> tuple[Path, bytes]:
    """Return the interpreter of the engine that the demo installed, and weights that it carried."""
    pythons = sorted((DEMO / "appliance/opt/sealift/releases").glob("*/engine-llama-cpp/bin/python"))
    parts = sorted((DEMO / "media").glob(f"volume-*/release/data/models/{model}/*.gguf*"), key=lambda path: path.name)
    if not pythons or not parts:
        pytest.skip("there is no engine of the demo; run make demo")
    return pythons[0], b"".join(part.read_bytes() for part in parts)


def taken(pid: int) -> int:
    """Return the bytes that a process and its children take: shared pages by their share, mapped files included."""
    total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "status").read_text()
            parent = next(line for line in status.splitlines() if line.startswith("PPid:")).split()[1]
            if str(pid) not in {entry.name, parent}:
                continue
            rows = (entry / "smaps_rollup").read_text().splitlines()
        except (OSError, StopIteration):
            continue
        total += sum(int(row.split()[1]) * 1024 for row in rows if row.startswith("Pss:"))
    return total


@pytest.mark.parametrize("model", ["smollm2-135m-instruct", "smollm2-135m-instruct-q8_0"])
def test_the_real_engine_takes_what_was_computed_at_most(model: str) -> None:
    python, weights = shipped(model)
    with short_folder() as root:
        text = f'site = "s"\nenvironment = "demo"\nprofile = "cpu"\n[places]\nroot = "{root}"\n'
        config = configuration.parse(text.encode())
        config.at.run.mkdir(parents=True)
        config.at.config_file.parent.mkdir(parents=True)
        config.at.config_file.write_text(text)
        files = version_files(weights=weights)
        fields = canonical.mapping(canonical.loads(files["data/models/tiny/descriptor.json"]), "descriptor")
        fields["runtime"] = {**fields["runtime"], "n_ctx": N_CTX, "n_batch": N_BATCH, "n_seq_max": 4}
        files["data/models/tiny/descriptor.json"] = canonical.dumps(fields)
        stored = store_release(config.at, files)
        descriptor = ModelDescriptor.from_bytes(files["data/models/tiny/descriptor.json"])
        need = need_of(descriptor, stored.path_of)
        assert need is not None
        name = f"test-{descriptor.model_digest[:12]}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            notices.settimeout(300)
            notices.bind(str(config.at.run / "notify"))
            engine = subprocess.Popen(
                [python, "-I", "-m", "appliance.serve.launcher", "--config", config.at.config_file, "--instance", name],
                env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": notices.getsockname()},
            )
            try:
                wait_ready(notices)
                with EngineClient(config.at.socket(f"engine-{name}"), read_seconds=300) as client:
                    client.chat({"messages": [{"role": "user", "content": "one two three"}], "max_tokens": 16})
                    words = "one two three four five six seven eight " * (N_BATCH // 20)
                    client.score(words, [words])  # a batch that keeps its scores is the largest moment
                measured = taken(engine.pid)
            finally:
                engine.terminate()
                engine.wait(timeout=60)

    sys.stdout.write(f"{measured >> 20} of {need.total >> 20} MiB\n")
    assert need.total / 2 <= measured <= need.total, (measured >> 20, need.to_json())
