"""What vLLM writes where a step fails: why, and no word of what was asked.

vLLM for this machine's processor, from the cache (`vllm_environment`), with an interpreter whose engine fails a step
that has a marked stop text in it; nothing else of vLLM is another.
"""

import os
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from appliance.serve.client import EngineClient
from media.errors import SealiftError
from tests.engines.contract import PATIENCE_SECONDS, QUESTION
from tests.engines.vllm_environment import interpreter, model
from tests.support.engine_process import engine_site
from tests.support.vllm_engine import START_SECONDS, launched, store_version

MARKED: Final = "cormorant-4711"
WHY: Final = "a step that was made to fail"
FAILS: Final = f"""
import contextlib, importlib.abc, importlib.util, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "vllm.v1.engine.core":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        inner = spec.loader.exec_module
        def exec_module(module):
            inner(module)
            fail(module.EngineCore)
        spec.loader.exec_module = exec_module
        return spec

def fail(core):
    told = core.log_error_detail
    @contextlib.contextmanager
    def step(self, scheduled):
        with told(self, scheduled):
            for one in scheduled.scheduled_new_reqs:
                if "{MARKED}" in (one.sampling_params.stop or ()):
                    raise RuntimeError("{WHY}")
            yield
    core.log_error_detail = step

sys.meta_path.insert(0, Finder())
"""

pytestmark = [
    pytest.mark.engines,
    pytest.mark.timeout(900),
    pytest.mark.skipif("SEALIFT_VLLM_PYTHON" in os.environ, reason="a named interpreter is not to be changed"),
]


def test_a_step_that_fails_tells_why_and_no_stop_text_and_no_schema(tmp_path: Path) -> None:
    python = interpreter(tmp_path / "python")
    (own,) = (tmp_path / "python").glob("lib/python3*/site-packages")
    (own / "failing_step.py").write_text(FAILS)
    (own / "failing_step.pth").write_text("import failing_step\n")
    schema = {"type": "object", "properties": {MARKED: {"type": "string"}}, "required": [MARKED]}
    shaped = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    log = tmp_path / "log"

    with engine_site() as site:
        with site.at.config_file.open("a") as stream:
            stream.write(f"[engine]\nstart_seconds = {START_SECONDS}\n")
        descriptor = store_version(site, model(tmp_path / "model"))
        instance = f"test-{descriptor.model_digest[:12]}"
        with launched(site, instance, python=python, log=log) as launcher:
            with EngineClient(site.at.socket(f"engine-{instance}"), read_seconds=PATIENCE_SECONDS) as engine:
                assert engine.chat({**QUESTION, "max_tokens": 2, "stop": ["other"]})["usage"]["completion_tokens"] == 2
                with pytest.raises(SealiftError):
                    engine.chat({**QUESTION, "max_tokens": 2, "stop": [MARKED], "response_format": shaped})
            until = time.monotonic() + PATIENCE_SECONDS
            while launcher.poll() is None and time.monotonic() < until:
                time.sleep(0.1)
            ended = launcher.poll()
    told = log.read_text(errors="replace")

    sys.stdout.write(told[-6000:])
    assert MARKED not in told
    assert "Dumping" not in told
    assert ended is not None
    assert WHY in told
    assert "vllm.v1.engine.core:" in told
