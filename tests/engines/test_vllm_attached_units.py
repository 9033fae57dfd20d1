"""vLLM's published server, attached, as the unit that systemd starts: behind the walls that an install gives it.

It stands for every attached engine that is built on PyTorch. Which additions its unit has is found as an install finds
it, by the wheels of its environment; the box is that of `test_vllm_units`.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from appliance.install import additions
from appliance.registry.descriptor import ModelDescriptor
from tests.box.checkout import booted, lay_down, lay_drop_ins, start
from tests.box.engineunit import LIBRARIES, EngineUnit, lay_environment
from tests.engines import line
from tests.engines.contract import PATIENCE_SECONDS, QUESTION, knows_the_capital
from tests.engines.vllm_environment import model, packages
from tests.engines.vllm_published import NO_PROMPTS_KEPT, SERVER, files_of
from tests.support.installable import places_below, store_release
from tests.support.vllm_engine import START_SECONDS

SITE: Final = f'format = 1\nsite = "demo"\n[engine]\nstart_seconds = {START_SECONDS}\n'
LOCK: Final = line.HERE / "engine-vllm.txt"

pytestmark = [
    pytest.mark.engines,
    pytest.mark.timeout(840),
    pytest.mark.skipif(os.geteuid() != 0, reason="root boots a box"),
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineUnit]:
    files = files_of(model(tmp_path_factory.mktemp("safetensors") / "model"), *SERVER, NO_PROMPTS_KEPT)
    digest12 = ModelDescriptor.from_bytes(files["data/models/small/descriptor.json"]).model_digest[:12]
    needs = additions.asked_for({"engine-attached": LOCK.read_bytes()})

    def lay(root: Path) -> None:
        lay_down(root, SITE)
        lay_drop_ins(root, SITE, needed=needs.units)
        store_release(places_below(root), files)
        # What the launcher needs besides comes from the server's environment; where both have a package, the engine's.
        lay_environment(root, digest12, "/srv/checkout", LIBRARIES, "/srv/packages")

    with booted("slpublished", lay, media={LIBRARIES: packages()}) as machine:
        found = EngineUnit(box=machine, digest12=digest12, patience_seconds=PATIENCE_SECONDS)
        began = time.monotonic()
        start(machine, found.unit)
        sys.stdout.write(f"the unit is ready after {time.monotonic() - began:.1f} s\n")
        yield found


def test_it_answers_behind_the_walls_of_its_unit(engine: EngineUnit) -> None:
    with engine.client() as client:
        knows_the_capital(client)


def test_a_killed_one_is_back_by_itself_and_a_stop_leaves_nothing(engine: EngineUnit) -> None:
    engine.killed_is_back(QUESTION, within_seconds=START_SECONDS)
    engine.stops_and_leaves_nothing()
