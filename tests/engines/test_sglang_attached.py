"""SGLang's own published server as an attached engine, in its dialect: on a Unix socket, and on a port of its own.

Name an interpreter that finds this checkout, SGLang 0.5.16 and what the launcher of an attached engine needs, and a
folder with a model as safetensors: ``SEALIFT_SGLANG_PYTHON=… SEALIFT_VLLM_MODEL=… pytest -m engines
tests/engines/test_sglang_attached.py``. SEALIFT_SGLANG_ARGUMENTS are further words for the server, such as the backends
of a card.
"""

import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from appliance.registry.descriptor import ModelDescriptor
from appliance.serve.client import EngineClient
from media import canonical
from tests.engines.contract import (
    PATIENCE_SECONDS,
    ends_when_its_caller_leaves,
    keeps_a_shape,
    keeps_the_contract,
    knows_the_capital,
)
from tests.support import attached
from tests.support.engine_process import engine_site
from tests.support.ports import held_port
from tests.support.vllm_engine import version_files

PYTHON: Final = Path(os.environ.get("SEALIFT_SGLANG_PYTHON", "/nonexistent"))
MODEL: Final = Path(os.environ.get("SEALIFT_VLLM_MODEL", "/nonexistent"))
MORE: Final = tuple(os.environ.get("SEALIFT_SGLANG_ARGUMENTS", "").split())
_DESCRIPTOR: Final = "data/models/small/descriptor.json"
_CONTEXT: Final = 2048
_KEEPS_ITS_WORD: Final = ("--disable-radix-cache", "--enable-deterministic-inference")
_SERVED: Final = (
    *("--context-length", str(_CONTEXT + 16), "--max-running-requests", "4", "--max-total-tokens", "16384"),
    *("--log-level", "error", *MORE),
)
_START_SECONDS: Final = 300
_ON_A_SOCKET: Final = ("--socket", "{socket}", "--model-path", "{model}", *_SERVED)

pytestmark = [
    pytest.mark.engines,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not (PYTHON.exists() and MODEL.exists()), reason="name SEALIFT_SGLANG_PYTHON and SEALIFT_VLLM_MODEL"
    ),
]


def stored(site: Any, *arguments: str) -> ModelDescriptor:
    """Lay down a version for a server of these arguments, or of somebody's; return its descriptor."""
    files = version_files(MODEL)
    fields = canonical.mapping(canonical.loads(files[_DESCRIPTOR]), "descriptor")
    settings = {
        **attached.SUPERVISED,
        "module": "appliance.serve.attached_sglangserver" if arguments else "",
        "arguments": list(arguments),
        "dialect": "sglang",
    }
    fields["runtime"] = {**fields["runtime"], "n_ctx": _CONTEXT, "n_seq_max": 4, "attached": settings}
    files[_DESCRIPTOR] = canonical.dumps({**fields, "engine": "attached"})
    return attached.store(site, files, name="small")


@pytest.fixture(scope="module")
def engine() -> Iterator[Path]:
    with engine_site() as site:
        descriptor = stored(site, *_ON_A_SOCKET, *_KEEPS_ITS_WORD)
        with attached.launched(site, descriptor, python=PYTHON, seconds=_START_SECONDS) as (socket, launcher):
            yield socket
            started = attached.descendants(launcher.pid)
        # SGLang's own processes are no children of the launcher's worker, and hold the weights.
        attached.require_several_ended(started)


@pytest.fixture
def client(engine: Path) -> Iterator[EngineClient]:
    with EngineClient(engine, read_seconds=PATIENCE_SECONDS) as found:
        yield found


def test_it_keeps_the_contract_of_every_engine(engine: Path) -> None:
    keeps_the_contract(engine, seconds=120)


def test_it_answers_what_it_was_asked(client: EngineClient) -> None:
    knows_the_capital(client)


@pytest.mark.skipif("cpu" in MORE, reason="SGLang keeps no shape on a processor: its sampler has no mask there")
def test_it_answers_in_the_shape_that_was_asked_for(client: EngineClient) -> None:
    keeps_a_shape(client)


def test_a_caller_that_leaves_ends_the_generation(client: EngineClient) -> None:
    ends_when_its_caller_leaves(client)


def test_what_it_says_of_likelihoods_is_the_models_own(client: EngineClient) -> None:
    paris, lyon, nonsense = (
        one.log_likelihood for one in client.score("The capital of France is", [" Paris", " Lyon", " xylophone"])
    )

    assert -2 < paris < 0
    assert nonsense < lyon < paris


@contextmanager
def published(*arguments: str) -> Iterator[int]:
    """Run SGLang's server as it is published, on a port of this machine; yield the port once it is well."""
    port = held_port()
    words = ("--model-path", str(MODEL), "--host", "127.0.0.1", "--port", str(port), *_SERVED, *arguments)
    server = subprocess.Popen([PYTHON, "-I", "-m", "sglang.launch_server", *words], start_new_session=True)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _is_well(port):
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.5)
        yield port
    finally:
        server.terminate()
        server.wait(60)


def _is_well(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize("keeps", [_KEEPS_ITS_WORD, _KEEPS_ITS_WORD[1:]], ids=["as asked", "it keeps prompts"])
def test_its_published_server_on_a_port_serves_the_test_stage(keeps: tuple[str, ...]) -> None:
    with published(*keeps) as port, engine_site() as site:
        with site.at.config_file.open("a") as text:
            text.write(f'[engine]\nattached = "127.0.0.1:{port}"\nstart_seconds = 30\n')
        descriptor = stored(site)
        if keeps is _KEEPS_ITS_WORD:
            with attached.launched(site, descriptor, python=PYTHON) as (socket, _), EngineClient(socket) as asked:
                knows_the_capital(asked)
            return
        assert "--disable-radix-cache" in attached.refused(site, descriptor, python=PYTHON, seconds=120)
