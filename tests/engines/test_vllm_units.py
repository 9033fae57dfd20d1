"""vLLM as the unit that systemd starts: a real one behind the unit's walls and `variants/vllm.conf`.

It answers on the processor; where the machine has a card and an environment is named, which is then for cards, on it,
with `variants/gpu.conf` and the unit that reads the cards. The box is a bare Debian 12 with this machine's /usr; the
additions to its units are those that an install lays down for an environment with vLLM. What a release brings and
people decide is shown without systemd (`test_vllm_for_real`).
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from appliance.registry.descriptor import ModelDescriptor
from tests.box import cards
from tests.box.checkout import PYTHON, booted, journal, lay_down, lay_drop_ins, start
from tests.box.engineunit import LIBRARIES, USER, EngineUnit, lay_environment
from tests.engines.contract import PATIENCE_SECONDS, QUESTION, ends_when_its_caller_leaves, knows_the_capital
from tests.engines.vllm_environment import model, packages
from tests.support.installable import places_below, store_release
from tests.support.vllm_engine import START_SECONDS, version_files

SITE: Final = f'format = 1\nsite = "demo"\n[engine]\nstart_seconds = {START_SECONDS}\n'
ON_A_CARD: Final = cards.any_here() and bool(os.environ.get("SEALIFT_VLLM_PYTHON"))
OTHER: Final = "feedfacefeed"
HEADER: Final = Path(f"/usr/include/{PYTHON.name}/Python.h")
# As Triton does for each kernel on a GPU; here it is a module without one.
BUILDS: Final = """
from triton.runtime.build import compile_module_from_src

MODULE = '''
#include <Python.h>
static PyObject *seven(PyObject *self, PyObject *none) { return PyLong_FromLong(7); }
static PyMethodDef methods[] = {{"seven", seven, METH_NOARGS, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef probe = {PyModuleDef_HEAD_INIT, "probe", NULL, -1, methods};
PyMODINIT_FUNC PyInit_probe(void) { return PyModule_Create(&probe); }
'''
print("built and loaded", compile_module_from_src(MODULE, "probe").seven())
"""

pytestmark = [
    pytest.mark.engines,
    pytest.mark.timeout(1140),
    pytest.mark.skipif(os.geteuid() != 0, reason="root boots a box"),
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineUnit]:
    files = version_files(model(tmp_path_factory.mktemp("safetensors") / "model"))
    digest12 = ModelDescriptor.from_bytes(files["data/models/small/descriptor.json"]).model_digest[:12]

    def lay(root: Path) -> None:
        lay_down(root, SITE)
        lay_drop_ins(root, SITE, needed={"vllm", "gpu"} if ON_A_CARD else {"vllm"})
        store_release(places_below(root), files)
        # Nothing of the server's environment: the lock has what the launcher and the door need.
        lay_environment(root, digest12, "/srv/checkout", LIBRARIES)
        (root / "opt/builds.py").write_text(BUILDS)
        other = root / f"etc/systemd/system/sealift-engine-test@{OTHER}.service.d"
        other.mkdir()
        command = f"/opt/sealift/engines/{digest12}/bin/python -I /opt/builds.py"
        lines = ("Type=oneshot", "Restart=no", "Environment=TRITON_CACHE_DIR=/tmp/cache", "ExecStart=")
        (other / "90-own.conf").write_text("\n".join(["[Service]", *lines, f"ExecStart={command}\n"]))

    with booted("slvllm", lay, media={LIBRARIES: packages()}) as machine:
        if ON_A_CARD:
            cards.lend(machine)
        found = EngineUnit(box=machine, digest12=digest12, patience_seconds=PATIENCE_SECONDS)
        began = time.monotonic()
        start(machine, found.unit)
        sys.stdout.write(f"vLLM's unit is ready after {time.monotonic() - began:.1f} s\n")
        yield found


def test_it_answers_behind_the_walls_of_its_unit(engine: EngineUnit) -> None:
    with engine.client() as client:
        knows_the_capital(client)


def test_each_of_its_processes_is_held_as_the_unit_says(engine: EngineUnit) -> None:
    held = [engine.box.status_of(process) for process in engine.box.shell(f"pgrep -u {USER}").stdout.split()]
    user = engine.box.shell(f"id -u {USER}").stdout.strip()

    assert len(held) >= 3, [one["Name"] for one in held]  # the launcher, vLLM's server and its engine
    assert "VLLM::Worker" not in {one["Name"] for one in held}  # one process hands out steps and computes them
    assert {tuple(one["Uid"].split()) for one in held} == {(user,) * 4}
    assert {(one["NoNewPrivs"], one["Seccomp"], int(one["CapBnd"], 16)) for one in held} == {("1", "2", 0)}
    for one in held:
        links = engine.box.shell(f"tail -n +3 /proc/{one['Pid']}/net/dev | cut -d: -f1").stdout.split()
        assert links == ["lo"], one["Name"]


def test_a_caller_that_leaves_ends_the_generation(engine: EngineUnit) -> None:
    with engine.client() as client:
        ends_when_its_caller_leaves(client)


@pytest.mark.skipif(
    not HEADER.exists() or shutil.which("gcc") is None, reason="needs gcc and the headers of Debian's Python"
)
def test_triton_builds_and_loads_a_program_behind_the_same_walls(engine: EngineUnit) -> None:
    unit = f"sealift-engine-test@{OTHER}.service"

    start(engine.box, unit)

    assert "built and loaded 7\n" in journal(engine.box, unit)


@pytest.mark.skipif(not ON_A_CARD, reason="no GPU, or no environment is named")
def test_the_card_is_read_by_the_unit_that_may_and_holds_the_weights(engine: EngineUnit) -> None:
    start(engine.box, "sealift-gpus.service")
    told = engine.box.shell("cat /run/sealift/gpus/gpus.json")

    (card, *_) = json.loads(told.stdout)["gpus"]
    assert 2**30 < card["memory_bytes"] <= card["memory_total_bytes"], journal(engine.box, "sealift-gpus")
    assert card["power_milliwatts"] > 0


def test_a_killed_one_is_back_by_itself_and_a_stop_leaves_nothing(engine: EngineUnit) -> None:
    engine.killed_is_back(QUESTION, within_seconds=START_SECONDS)
    engine.stops_and_leaves_nothing()
