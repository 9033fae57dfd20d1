"""vLLM serving production, in two ways: from the medium of a whole release, or short of media, wheels and installing.

The short way has the same gateway, ledger, promoter, launcher and door, and approvals by two people; the release that
it receives is signed in the test and brings weights alone, gates ask a stand-in, and vLLM comes from the cache
(`vllm_environment`). Its engine runs in an empty network where this machine lends one, as a unit does.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from appliance import config as configuration
from appliance.wire import Line
from bundler.recipe import Recipe
from examples.demo.conversation import Answered, ask
from media.vllmprofile import VllmSettings
from tests.engines import line
from tests.engines.vllm_environment import interpreter, model
from tests.support.commands import Run, as_json
from tests.support.medium import MACHINE, make_medium
from tests.support.promoting import bring, enrol_all, homes_of_people
from tests.support.rollout_site import POLICY, approve, by_process, in_process, running_gateway
from tests.support.running_site import RunningSite, running_site
from tests.support.versions import short_folder
from tests.support.vllm_engine import START_SECONDS, VllmSupervisor, version_files

_KEY: Final = ("keys", "create", "--department", "ward", "--owner", "test", "--phi", "tokenise")
_PATIENCE_SECONDS: Final = 120.0
# On a card another vLLM lies beside it where the two are compared (`bench.vllm`).
_SETTINGS: Final = VllmSettings(tool_call_parser="hermes", gpu_memory_utilization="0.70").to_json()
# Loopback is up, as in a unit with PrivateNetwork=: vLLM's own processes meet there.
_EMPTY: Final = ("sh", "-ec", 'ip link set lo up; exec "$@"', "sh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A version that serves production, and an answer of it.

    Args:
        gateway: Where callers ask.
        metrics: Where the gateway tells its metrics; empty where it does not.
        key: That a caller shows; identifiers become stand-ins for it.
        answered: The answer.
        weights_sha256: What the weights are to be.
        run: The folder of sockets.
        network_is_empty: Whether the engine was put where no network is.
        find_launcher: Returns the process that stands by vLLM.
        sealift: Runs a command that must succeed and returns what it says.
        logs: Returns the files that anything was written into.
        start_again: Starts the engine after it ended by a fault, or waits for whoever does so.
    """

    gateway: str
    metrics: str
    key: str
    answered: Answered
    weights_sha256: str
    run: Path
    network_is_empty: bool
    find_launcher: Callable[[], int]
    sealift: Callable[..., dict[str, Any]]
    logs: Callable[[], list[Path]]
    start_again: Callable[[], None]

    @property
    def socket(self) -> Path:
        """Where the engine listens."""
        return self.run / f"engine-production-{self.answered.model_digest[:12]}.sock"

    def recorded(self, request_id: str) -> dict[str, dict[str, Any]]:
        """Return what the ledger keeps of a request, by kind."""
        leaves = self.sealift("audit", "list", "--request", request_id)["leaves"]
        return {leaf["kind"]: leaf["body"] for leaf in leaves}


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted:
    """A site whose production version vLLM serves."""

    site: RunningSite
    supervisor: VllmSupervisor
    sealift: Run
    digest: str
    port: int

    @property
    def unit(self) -> str:
        """The engine's unit."""
        return f"sealift-engine-production@{self.digest[:12]}.service"


@contextmanager
def promoted(
    python: Path, folder: Path, *, more: str = "", within: tuple[str, ...] = (), core: int | None = None
) -> Iterator[Promoted]:
    """Run a site whose production version vLLM serves, and its gateway.

    Args:
        python: Whose environment has vLLM.
        folder: Of safetensors.
        more: Lines of the site file's section about engines.
        within: Words that run the launcher elsewhere.
        core: That the gateway keeps to; else it runs where there is room.
    """
    with ExitStack() as stack:
        homes = stack.enter_context(homes_of_people())
        root = stack.enter_context(short_folder())
        here = {**MACHINE, "python": f"{sys.version_info.major}.{sys.version_info.minor}"}
        medium = make_medium(root / "m", files=version_files(folder, settings=_SETTINGS), machines=[here])
        (root / "site").mkdir()
        made: list[VllmSupervisor] = []

        def engines(config: configuration.Config) -> VllmSupervisor:
            made.append(VllmSupervisor(config, python=python, within=within))
            return made[0]

        own = f"{POLICY}[engine]\nstart_seconds = {START_SECONDS}\n{more}"
        site = stack.enter_context(running_site(root / "site", medium, engines=engines, more=own))
        run = in_process(site)
        enrol_all(site, run, homes)
        digest = bring(site, 1, medium=medium)
        approve(run, digest, homes)
        as_json(run, "promote", digest)
        port = stack.enter_context(running_gateway(site, core=core))
        yield Promoted(site=site, supervisor=made[0], sealift=run, digest=digest, port=port)


@contextmanager
def the_short_way() -> Iterator[Served]:
    """Serve the demo's model short of media, wheels and installing."""
    within = empty_network()
    with tempfile.TemporaryDirectory(prefix="slv", dir="/tmp") as scratch:
        folder = model(Path(scratch) / "model")
        with promoted(interpreter(Path(scratch) / "python"), folder, within=within) as own:
            at = own.site.config.at
            metrics = configuration.parse(at.config_file.read_bytes()).service.metrics_port
            gateway, key = f"http://127.0.0.1:{own.port}", str(as_json(own.sealift, *_KEY)["key"])

            def start_again() -> None:
                own.supervisor.stop(own.unit)
                own.supervisor.start(own.unit)

            yield Served(
                gateway=gateway,
                metrics=f"http://127.0.0.1:{metrics}/metrics",
                key=key,
                answered=ask(f"{gateway}/v1", key),
                weights_sha256=_weights_of_the_recipe(),
                run=at.run,
                network_is_empty=bool(within),
                find_launcher=lambda: own.supervisor.launchers[own.unit].pid,
                sealift=partial(as_json, by_process(own.site)),
                logs=lambda: [path for path in own.site.root.rglob("*.log") if path.is_file()],
                start_again=start_again,
            )


@contextmanager
def by_the_line() -> Iterator[Served]:
    """Serve it from the medium that `test_vllm_made.py` left or one made now, by the commands that people type."""
    demo = line.prepared(line.ROOT / "build/engines")
    try:
        volume = line.medium(demo)
        line.write_site_file(demo)
        line.receive(demo, volume)
        line.promote(demo)
        key = str(demo.stage.ask("sealift", *_KEY)["key"])
        gateway = str(demo.facts["gateway"])
        answered = ask(f"{gateway}/v1", key)
        unit = f"sealift-engine-production@{answered.model_digest[:12]}.service"

        def units() -> dict[str, Any]:
            with closing(Line(demo.run / "units.sock", timeout_seconds=_PATIENCE_SECONDS)) as supervisor:
                (found,) = (one for one in supervisor.call("list")["units"] if one["unit"] == unit)
            return dict(found)

        before = units()

        def start_again() -> None:
            while units()["restarts"] == before["restarts"] or units()["state"] != "active":
                time.sleep(0.5)

        yield Served(
            gateway=gateway,
            metrics="",
            key=key,
            answered=answered,
            weights_sha256=_weights_of_the_recipe(),
            run=demo.run,
            network_is_empty=False,
            find_launcher=lambda: int(units()["pid"]),
            sealift=lambda *words: demo.stage.ask("sealift", *words),
            logs=lambda: [path for path in demo.out.rglob("*.log") if path.is_file()],
            start_again=start_again,
        )
    finally:
        sys.stdout.write(json.dumps(demo.stage.times, indent=1) + "\n")
        line.finish(demo)


def empty_network() -> tuple[str, ...]:
    """Return words that run the words after them where no network is; none where this machine does not lend one."""
    words = (*("unshare", "--net"), *(() if os.geteuid() == 0 else ("--map-root-user",)), *_EMPTY)
    try:
        tried = subprocess.run([*words, "true"], capture_output=True, check=False)
    except OSError:
        return ()
    return words if tried.returncode == 0 else ()


def _weights_of_the_recipe() -> str:
    files: dict[str, str] = Recipe.load(line.RECIPE).models[0].source.files  # type: ignore[union-attr]
    return files["model.safetensors"]
