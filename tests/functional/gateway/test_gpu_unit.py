"""`sealift-gpus` as it is started, with a stand-in for the driver's tool, and a gateway's metrics that read it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from appliance import config as configuration
from appliance.config import Places
from appliance.errors import StoreWriteError
from appliance.gateway.metrics import Metrics
from appliance.registry import gpufigures
from appliance.registry.gpus import no_gpus
from media.clock import SystemClock

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each

_SECONDS = 30.0


@pytest.fixture
def site(tmp_path: Path) -> Path:
    file = tmp_path / "sealift.toml"
    file.write_text(f'site = "s"\n[places]\nroot = "{tmp_path}"\n')
    (tmp_path / "tools").mkdir()
    gpufigures.folder(places_of(file)).mkdir(parents=True)
    return file


def places_of(site: Path) -> Places:
    return configuration.load(site).at


def lay_tool(site: Path, script: str) -> None:
    """Put a stand-in for the driver's tool in place, by one rename: it is run every few seconds."""
    beside = site.parent / "tools/new"
    beside.write_text(f"#!/bin/sh\n{script}\n")
    beside.chmod(0o755)
    beside.rename(site.parent / "tools/nvidia-smi")


@contextmanager
def started(site: Path) -> Iterator[tuple["subprocess.Popen[str]", Callable[[], str]]]:
    """Start the unit's program as systemd would; yield it, and what returns the next thing that it tells systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        place = f"sealift-gpus-{os.getpid()}-{time.monotonic_ns()}"
        notices.bind(f"\0{place}")
        notices.settimeout(_SECONDS)
        environment = {"PATH": str(site.parent / "tools"), "NOTIFY_SOCKET": f"@{place}"}
        command = [sys.executable, "-m", "appliance.gateway.gpuunit", "--config", str(site)]
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                yield process, lambda: notices.recv(4096).decode()
            finally:
                process.kill()


def test_what_the_unit_reads_is_in_the_gateways_metrics_until_it_ends(site: Path) -> None:
    lay_tool(site, 'echo "0, 97, 79000, 81920, 612.5"; echo "1, 3, 9, 81920, [N/A]"; echo "2, [N/A], [N/A], 9, 9"')
    places = places_of(site)
    metrics = Metrics(read_gpus=gpufigures.reader(places, SystemClock(), itself=no_gpus))

    with started(site) as (process, notice):
        assert notice() == "READY=1"
        assert len(gpufigures.told(places, SystemClock())) == 2, "whoever waits for the unit finds the first figures"
        assert notice() == "STATUS=2 GPUs\nWATCHDOG=1"
        told = generate_latest(metrics.registry).decode()
        process.send_signal(signal.SIGTERM)
        assert process.wait(_SECONDS) == 0

    for line in (
        'llama_gpu_utilization_percent{gpu_id="0"} 97.0',
        'llm_gpu_memory_bytes{gpu_id="1"} 9.437184e+06',
        'nvidia_smi_utilization_gpu{gpu_id="1"} 3.0',
        'sealift_gpu_power_watts{gpu_id="0"} 612.5',
    ):
        assert f"\n{line}\n" in told, told
    assert metrics.registry.get_sample_value("llm_gpu_memory_bytes", {"gpu_id": "0"}) is None
    assert 'gpu_id="2"' not in told
    assert 'power_watts{gpu_id="1"}' not in told
    assert not list(gpufigures.folder(places).iterdir())


def test_the_drivers_tool_is_not_told_where_the_unit_notifies(site: Path) -> None:
    lay_tool(site, f'echo "told:$NOTIFY_SOCKET" > {site.parent}/seen; echo "0, 97, 79000, 81920, 612.5"')

    with started(site) as (_, notice):
        assert (notice(), notice()) == ("READY=1", "STATUS=1 GPUs\nWATCHDOG=1")

    assert (site.parent / "seen").read_text() == "told:\n"


def test_a_unit_that_is_killed_leaves_figures_that_grow_old(site: Path) -> None:
    lay_tool(site, 'echo "0, 97, 79000, 81920, 612.5"')
    places = places_of(site)

    with started(site) as (process, notice):
        assert (notice(), notice()) == ("READY=1", "STATUS=1 GPUs\nWATCHDOG=1")
        process.kill()

    class Later(SystemClock):
        def monotonic(self) -> float:
            return super().monotonic() + gpufigures.FRESH_SECONDS + 1

    assert [gpu.utilization_percent for gpu in gpufigures.told(places, SystemClock())] == [97]
    assert gpufigures.told(places, Later()) == ()


def test_a_driver_that_fails_is_told_as_no_gpu(site: Path) -> None:
    lay_tool(site, "echo 'Unable to determine the device handle for GPU0'; exit 15")

    with started(site) as (_, notice):
        assert (notice(), notice()) == ("READY=1", "STATUS=0 GPUs\nWATCHDOG=1")
        assert gpufigures.told(places_of(site), SystemClock()) == ()
        assert (gpufigures.folder(places_of(site)) / gpufigures.FILE).exists()


def test_without_the_drivers_tool_there_is_nothing_to_do(site: Path) -> None:
    with started(site) as (process, notice):
        assert notice() == "READY=1"
        assert process.wait(_SECONDS) == 0
        assert process.stderr is not None
        assert "nvidia-smi is not installed" in process.stderr.read()

    assert not list(gpufigures.folder(places_of(site)).iterdir())


def test_figures_that_cannot_be_written_end_it_without_naming_a_place(site: Path) -> None:
    lay_tool(site, 'echo "0, 97, 79000, 81920, 612.5"')
    folder = gpufigures.folder(places_of(site))
    folder.rmdir()
    folder.write_bytes(b"")

    with started(site) as (process, _):
        assert process.wait(_SECONDS) == StoreWriteError.exit_code
        assert process.stderr is not None
        assert process.stderr.read() == "gpus: the figures cannot be written (Not a directory)\n"


def test_a_site_file_that_does_not_read_ends_it_with_its_own_code(site: Path) -> None:
    site.write_text("nonsense")

    with started(site) as (process, _):
        assert process.wait(_SECONDS) == 50
