"""`sealift run-units` as a process: in the background, in the foreground, killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from appliance.actions import units
from appliance.config import Config
from appliance.errors import UnitError
from tests.support.small_units import configuration, write_units

_RUN = """
import json, sys
from pathlib import Path
from appliance.actions import units
from appliance.config import Config
from media.errors import SealiftError
config = Config.model_validate_json(sys.argv[1])
source = units.Source(config=config, config_file=config.at.config_file, folder=Path(sys.argv[2]))
def tell(facts): print(json.dumps(facts.to_json()), flush=True)
try:
    if sys.argv[3] == "background":
        tell(units.run_in_background(source, []))
    else:
        units.run(source, [], ready=tell)
except SealiftError as error:
    print(json.dumps(error.to_json()), flush=True)
    sys.exit(error.exit_code)
"""


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    made = configuration(tmp_path)
    yield made
    shutil.rmtree(made.at.run)


def command(config: Config, folder: Path, how: str) -> list[str]:
    return [sys.executable, "-c", _RUN, config.model_dump_json(), str(folder), how]


def processes_of(config: Config) -> list[str]:
    """Return the command lines of living processes that name the configuration's root."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            line = (path / "cmdline").read_bytes() if path.name.isdigit() else b""
        except OSError:
            continue
        if str(config.at.root).encode() in line:
            found.append(line.decode())
    return found


def wait_until_none(config: Config) -> None:
    deadline = monotonic() + 10
    while processes_of(config):
        assert monotonic() < deadline
        sleep(0.02)


def test_units_in_the_background_are_ready_on_return_and_gone_after_stop(tmp_path: Path, config: Config) -> None:
    folder = write_units(tmp_path, ledger="serves", gateway="serves")

    done = subprocess.run(command(config, folder, "background"), capture_output=True, text=True, check=True)
    started = json.loads(done.stdout)
    shown = units.addresses(config)
    stopped = [units.stop(config), units.stop(config)]

    assert started["units"] == ["sealift-ledger.service", "sealift-gateway.service"]
    assert started["addresses"] == shown
    assert stopped == [True, False]
    assert processes_of(config) == []
    assert [path.name for path in config.at.run.iterdir() if path.suffix == ".sock"] == []


def test_a_unit_that_fails_takes_the_others_down_and_says_which(tmp_path: Path, config: Config) -> None:
    folder = write_units(tmp_path, ledger="serves", gateway="fails 50")

    done = subprocess.run(command(config, folder, "background"), capture_output=True, text=True, check=False)

    assert done.returncode == UnitError.exit_code
    assert json.loads(done.stdout)["what"] == "sealift-gateway.service did not start"
    wait_until_none(config)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_unit_outlives_its_supervisor(tmp_path: Path, config: Config, number: signal.Signals) -> None:
    folder = write_units(tmp_path, ledger="serves", gateway="serves")

    with subprocess.Popen(command(config, folder, "foreground"), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, number)
        process.wait(10)

    wait_until_none(config)


def test_addresses_without_units_name_the_command(config: Config) -> None:
    with pytest.raises(UnitError) as caught:
        units.addresses(config)

    assert "run-units" in caught.value.fix
