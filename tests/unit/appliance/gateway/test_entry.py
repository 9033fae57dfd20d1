"""The unit's entry point before anything listens: what is missing ends it with the code its unit file names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.keys.files import create_missing
from tests.support.ledger import ROOT

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each

READ = "import appliance.gateway.gunicorn_conf as c; print(c.threads, c.workers, c.accesslog, c.worker_class.__name__)"


def _run(config: Path, program: str = READ) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "SEALIFT_CONFIG": str(config)}
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False, timeout=30
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sealift.toml"
    path.write_text(
        f'site = "demo"\n[places]\nroot = "{tmp_path}"\n[limits]\nconcurrent_requests = 5\nqueue_length = 3\n'
    )
    return path


def test_every_answer_has_a_thread_and_some_are_left_for_health(config: Path, tmp_path: Path) -> None:
    create_missing(tmp_path / "etc/sealift/keys")

    done = _run(config)

    assert (done.returncode, done.stdout) == (0, "152 1 None LingeringWorker\n"), done.stderr


def test_a_missing_key_ends_it_with_the_code_for_keys(config: Path) -> None:
    done = _run(config)

    assert done.returncode == 56
    assert "api-key-pepper" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_site_file_ends_it_with_the_code_for_configuration(tmp_path: Path) -> None:
    done = _run(tmp_path / "absent.toml")

    assert done.returncode == 50
    assert "Traceback" not in done.stderr


def test_a_worker_that_has_loaded_searches_seldom_for_cycles(config: Path, tmp_path: Path) -> None:
    create_missing(tmp_path / "etc/sealift/keys")
    config.write_text(config.read_text() + "[service]\nmetrics_port = 0\n")
    program = """
import gc
from types import SimpleNamespace as Some
import appliance.gateway.gunicorn_conf as c
from appliance.gateway.application import Running
begins = Some(start=lambda: None, stop=lambda: None, end=lambda: None)
members = dict.fromkeys(Running.__dataclass_fields__) | dict.fromkeys(["batches", "refusals", "watch"], begins)
c.post_worker_init(Some(sockets=[], wsgi=Some(extensions={"sealift": Running(**members)})))
print(gc.get_freeze_count() > 10_000, gc.get_threshold()[0])
"""

    done = _run(config, program)

    assert (done.returncode, done.stdout) == (0, "True 20000\n"), done.stderr


def test_a_worker_may_open_a_file_for_each_connection_and_more(config: Path, tmp_path: Path) -> None:
    create_missing(tmp_path / "etc/sealift/keys")
    program = """
import resource
import appliance.gateway.gunicorn_conf as c
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
c.post_fork(None, None)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
print(soft > c.worker_connections + c.threads or soft == hard)
"""

    done = _run(config, program)

    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
