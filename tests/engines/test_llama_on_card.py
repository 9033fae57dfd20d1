"""llama.cpp with all layers on a real card by Vulkan: behind our launcher, and as the unit that systemd starts.

Name an interpreter that finds this checkout and llama-cpp-python with the library for Vulkan (the wheels of a release
with `[llama_cpp] backend = "vulkan"`), and a GGUF file with its `chat_template.jinja` beside it:
``SEALIFT_LLAMA_PYTHON=… SEALIFT_LLAMA_GGUF=… pytest -m engines tests/engines/test_llama_on_card.py``. The whole line is
`test_llama_on_vulkan.py`, where Mesa's driver shows the processor as a card.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from appliance.registry import gpus
from appliance.registry.descriptor import ModelDescriptor
from appliance.serve.client import EngineClient
from media.llamaprofile import LlamaSettings
from tests.box import cards
from tests.box.checkout import booted, lay_down, lay_drop_ins, start
from tests.box.engineunit import LIBRARIES, EngineUnit, lay_environment
from tests.engines.contract import (
    PATIENCE_SECONDS,
    QUESTION,
    ends_when_its_caller_leaves,
    keeps_the_contract,
    knows_the_capital,
)
from tests.support.engine_process import engine_site
from tests.support.installable import places_below, store_release
from tests.support.interpreters import packages_with
from tests.support.versions import store_version, version_files
from tests.support.vllm_engine import in_test

PYTHON: Final = os.environ.get("SEALIFT_LLAMA_PYTHON", "")
WEIGHTS: Final = Path(os.environ.get("SEALIFT_LLAMA_GGUF", "/nonexistent"))
SITE: Final = 'format = 1\nsite = "demo"\n[engines.test]\ngpus = [0]\n'
_DRIVERS: Final = ("etc/vulkan/icd.d", "etc/glvnd/egl_vendor.d")

pytestmark = [
    pytest.mark.engines,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not (PYTHON and WEIGHTS.exists()), reason="name SEALIFT_LLAMA_PYTHON and SEALIFT_LLAMA_GGUF"),
    pytest.mark.skipif(not cards.any_here(), reason="no GPU"),
]


def version(layers: int = -1) -> dict[str, object]:
    """Return what makes a version so many of whose layers lie on the first card; all of them, where none is named."""
    return {
        "weights": WEIGHTS.read_bytes(),
        "template": WEIGHTS.with_name("chat_template.jinja").read_bytes(),
        "n_ctx": 8192,
        "n_seq_max": 16,
        "n_batch": 512,
        "llama_cpp": LlamaSettings(n_gpu_layers=layers, num_gpu=1).to_json(),
    }


def held() -> float:
    """Return how many bytes of the first card are taken."""
    return gpus.open_reader()()[0].memory_bytes


@pytest.fixture(scope="module", params=[-1, 12], ids=["all layers", "some layers"])
def engine(request: pytest.FixtureRequest) -> Iterator[Path]:
    with engine_site() as site:
        _, descriptor = store_version(site, **version(request.param))  # type: ignore[arg-type]
        with in_test(site, descriptor, python=Path(PYTHON)) as socket:
            yield socket


def test_it_keeps_the_contract_of_every_engine(engine: Path) -> None:
    keeps_the_contract(engine, offers="logprobs,response_format,tools")


def test_it_answers_what_it_was_asked_and_the_card_holds_the_weights(engine: Path) -> None:
    with EngineClient(engine, read_seconds=PATIENCE_SECONDS) as client:
        knows_the_capital(client)

    assert held() > WEIGHTS.stat().st_size


def test_a_caller_that_leaves_ends_the_generation(engine: Path) -> None:
    with EngineClient(engine, read_seconds=PATIENCE_SECONDS) as client:
        ends_when_its_caller_leaves(client)


@pytest.fixture(scope="module")
def beside() -> float:
    """What lies on the card besides the unit's engine: the launcher's, which lives as long as this module."""
    return held()


@pytest.fixture(scope="module")
def unit(beside: float) -> Iterator[EngineUnit]:
    del beside  # looked at before it starts
    files = version_files(**version())  # type: ignore[arg-type]
    digest12 = ModelDescriptor.from_bytes(files["data/models/tiny/descriptor.json"]).model_digest[:12]
    packages = packages_with(Path(PYTHON), "llama_cpp")

    def lay(root: Path) -> None:
        lay_down(root, SITE)
        lay_drop_ins(root, SITE)
        store_release(places_below(root), files)
        lay_environment(root, digest12, "/srv/checkout", LIBRARIES, "/srv/packages")
        for folder in _DRIVERS:
            (root / folder).mkdir(parents=True)
            for path in Path("/", folder).glob("*nvidia*.json"):
                (root / folder / path.name).write_bytes(path.read_bytes())

    with booted("slcard", lay, media={LIBRARIES: packages}) as machine:
        cards.lend(machine)
        found = EngineUnit(box=machine, digest12=digest12, patience_seconds=PATIENCE_SECONDS)
        start(machine, found.unit)
        yield found


@pytest.mark.skipif(os.geteuid() != 0, reason="root boots a box")
def test_it_answers_behind_the_walls_of_its_unit(unit: EngineUnit, beside: float) -> None:
    with unit.client() as client:
        knows_the_capital(client)

    assert held() - beside > WEIGHTS.stat().st_size


@pytest.mark.skipif(os.geteuid() != 0, reason="root boots a box")
def test_a_killed_one_is_back_and_its_memory_on_the_card_with_it(unit: EngineUnit, beside: float) -> None:
    seconds = unit.killed_is_back(QUESTION, within_seconds=PATIENCE_SECONDS)
    sys.stdout.write(f"back after {seconds:.1f} s\n")
    unit.box.shell(f"systemctl stop {unit.unit}")

    assert held() - beside < WEIGHTS.stat().st_size
