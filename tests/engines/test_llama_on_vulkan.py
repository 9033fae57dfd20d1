"""Layers of llama.cpp on a card, from a recipe to an answer: Mesa's driver shows this machine's processor as one.

The library is built of the locked source, travels, is installed from the medium and computes. It is slow, as no card
is, so three layers of the demo's model lie there. On demand, since it takes three minutes to build
(`make test-deep SHARD=engines-vulkan`).
"""

import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from appliance import config as configuration
from appliance.errors import UnitError
from appliance.registry.descriptor import ModelDescriptor
from appliance.serve.client import EngineClient
from examples.demo.run import Demo, remove
from media.enginepackages import VULKAN
from tests.engines import line
from tests.engines.contract import PATIENCE_SECONDS, knows_the_capital
from tests.support import vulkan_kit
from tests.support.vllm_engine import launched

pytestmark = [
    pytest.mark.engines_vulkan,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(vulkan_kit.missing() != "", reason=vulkan_kit.missing()),
]

LAYERS: Final = 3
# Debian 12's Mesa (22.3) ends itself at steps of 512 rows.
RUNTIME: Final = f"""n_ctx = 512
n_batch = 64
n_seq_max = 2
llama_cpp = {{ n_gpu_layers = {LAYERS}, num_gpu = 1 }}
"""


def recipe_in(folder: Path) -> Path:
    """Lay down the demo's recipe with its first model, layers of which lie on a card of the probed target."""
    text = (line.ROOT / "examples/demo.toml").read_text()
    first, _, rest = text.partition("\n# Its sibling")
    allowed = rest[rest.index("\n# Findings of the scan") :]
    probed = folder / "probe.json"
    before, table, _ = first.partition("[models.runtime]\n")
    text = f'{before}{table}{RUNTIME}\n[llama_cpp]\nbackend = "vulkan"\n{allowed}'
    text = re.sub(r"cpu_flags = .*\n", f'probe = "{probed.name}"\n', text, count=1)
    folder.mkdir(parents=True)
    shutil.copytree(line.ROOT / "examples/evals", folder / "evals")
    (folder / "recipe.toml").write_text(text)
    assert tomllib.loads(text)["models"][0]["runtime"]["llama_cpp"]["num_gpu"] == 1
    return folder / "recipe.toml"


@pytest.fixture(scope="module")
def installed() -> Iterator[Demo]:
    demo = line.prepared(line.ROOT / "build/vulkan")
    demo.stage.environment["VULKAN_SDK"] = str(vulkan_kit.sdk())
    try:
        if (demo.out / "media").exists():
            remove(demo.out / "media")
        recipe = recipe_in(demo.out / "recipe")
        probe = line.ROOT / "bundler/probe/sealift-probe.sh"
        demo.stage.run("sh", probe, "-y", "-o", recipe.with_name("probe.json"))
        volume = line.send(demo, recipe)
        line.write_site_file(demo)
        with demo.config.open("a") as site:
            site.write('\n[policy]\nrehearsal_level = "installed"\n')
        line.receive(demo, volume)
        yield demo
    finally:
        line.finish(demo)


@pytest.fixture(scope="module")
def version(installed: Demo) -> ModelDescriptor:
    return ModelDescriptor.from_bytes(
        (line.release_of(installed) / f"data/models/{line.MODEL}/descriptor.json").read_bytes()
    )


def running(demo: Demo, version: ModelDescriptor) -> dict[str, Any]:
    """Return what `launched` starts the version with, as the unit of the test stage does."""
    (python,) = (demo.appliance / "opt/sealift/releases").glob("*/engine-llama-cpp/bin/python")
    config = configuration.load(demo.config)
    return {
        "config": config,
        "instance": f"test-{version.model_digest[:12]}",
        "python": python,
        "log": demo.out / "log",
    }


def test_the_medium_brings_the_library_and_says_what_it_was_built_with(installed: Demo) -> None:
    (wheel,) = (line.release_of(installed) / "data/wheels").glob(f"{VULKAN.replace('-', '_')}-*.whl")
    requirements = (line.release_of(installed) / "data/server/requirements-engine-llama-cpp.txt").read_text()
    notes = str(line.statement(installed, "provenance"))

    assert f"{VULKAN}==" in requirements
    assert "vulkan_headers: 1.4." in notes
    assert "glslc: shaderc" in notes
    content = wheel.read_bytes()
    assert str(line.ROOT).encode() not in content
    assert b"/scratch" not in content
    assert line.statement(installed, "rehearsal")["level"] == "installed"  # no card is there to answer by


def test_layers_on_a_card_answer(installed: Demo, version: ModelDescriptor, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in vulkan_kit.VISIBLE.items():
        monkeypatch.setenv(name, value)

    with launched(**running(installed, version)) as process:
        socket = configuration.load(installed.config).at.run / f"engine-test-{version.model_digest[:12]}.sock"
        with EngineClient(socket, read_seconds=PATIENCE_SECONDS) as client:
            knows_the_capital(client)
        computing = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        maps = "".join(Path(f"/proc/{each}/maps").read_text() for each in computing)

    assert "libggml-vulkan.so" in maps
    assert "libvulkan_lvp.so" in maps


def test_where_no_card_is_found_the_version_does_not_start_and_says_so(
    installed: Demo, version: ModelDescriptor
) -> None:
    with pytest.raises(UnitError) as caught, launched(**running(installed, version)):
        pytest.fail("it started")

    assert "the version's profile asks for 1 GPU" in caught.value.why
    assert "llama.cpp finds 0 here" in caught.value.why
