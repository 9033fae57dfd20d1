"""An engine as a process of its own, over a small version in a short folder; it decodes as `taken_over_engine` does."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from appliance import config as configuration
from appliance.config import Config
from tests.support.versions import short_folder, store_version

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "from tests.support import taken_over_engine; taken_over_engine.main()"


@contextmanager
def engine_site() -> Iterator[Config]:
    """Lend a site with a site file and a folder for sockets."""
    with short_folder() as root:
        text = f'site = "s"\nenvironment = "demo"\nprofile = "cpu"\n[places]\nroot = "{root}"\n'
        config = configuration.parse(text.encode())
        config.at.run.mkdir(parents=True)
        config.at.config_file.parent.mkdir(parents=True)
        config.at.config_file.write_text(text)
        yield config


@contextmanager
def running_engine(
    site: Config, *, program: str = PROGRAM, within: Sequence[str] = ()
) -> Iterator[tuple[str, "subprocess.Popen[str]", socket.socket]]:
    """Run the engine of a version in test; yield its instance's name, its process, and where it says that it is ready.

    Args:
        site: The site.
        program: What the process runs.
        within: A command that goes before it.
    """
    _, descriptor = store_version(site)
    name = f"test-{descriptor.model_digest[:12]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.settimeout(120)
        notices.bind(str(site.at.run / "notify"))
        process = subprocess.Popen(
            [*within, sys.executable, "-c", program, "--config", str(site.at.config_file), "--instance", name],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": notices.getsockname()},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield name, process, notices
        finally:
            process.terminate()
            process.communicate(timeout=60)


def wait_ready(notices: socket.socket) -> None:
    """Wait until an engine said that it is ready."""
    while b"READY=1" not in notices.recv(4096):
        pass
