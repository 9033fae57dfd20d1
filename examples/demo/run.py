"""`make demo`: the whole line with a real model, without root; every command is printed as it could be typed.

What it cannot do without root it says: there is no Ansible, no users of their own, no packet filter. The rehearsal does
run in an empty network namespace. Everything listens on loopback; keys are throwaway keys.
"""

import argparse
import json
import os
import shutil
import stat
import sys
import tempfile
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from examples.demo.conversation import TEXTS, Answered, Embedded, ask, ask_streamed, embed, left_over
from examples.demo.people import SitePerson, make_person
from examples.demo.rollout import require, roll_out
from examples.demo.stage import Stage, StageError
from examples.demo.trying import try_out
from media.gpgagent import stop_agents

ROOT = Path(__file__).resolve().parents[2]
SITE = "demo-hospital"
MODEL = "smollm2-135m-instruct"
SIBLING = "smollm2-135m-instruct-q8_0"
VOLUME_SIZE = "192MiB"
LONGEST_RUN = 60  # characters; a socket's whole path must stay under 100
ADDRESS = 'import json, sys; at = json.load(open(sys.argv[1])); print("http://%s:%d/v1" % (at["host"], at["gateway"]))'
SENDERS = ("ada:Ada Ferrer", "ben:Ben Okoye")


@dataclass(slots=True, kw_only=True)
class Demo:
    """The folders of one run and what became known on the way."""

    out: Path
    run: Path
    stage: Stage
    facts: dict[str, Any] = field(default_factory=dict)
    people: list[SitePerson] = field(default_factory=list)

    @property
    def ceremony(self) -> Path:
        """Root and throwaway keys of the sender's people."""
        return self.out / "ceremony"

    @property
    def work(self) -> Path:
        """The bundler's work folder."""
        return self.out / "work"

    @property
    def appliance(self) -> Path:
        """The root folder of the appliance."""
        return self.out / "appliance"

    @property
    def config(self) -> Path:
        """The site file."""
        return self.appliance / "etc/sealift/sealift.toml"

    @property
    def volumes(self) -> list[Path]:
        """Where the volumes lie."""
        return sorted((self.out / "media").glob("volume-*"))

    @property
    def installed(self) -> Path:
        """Scripts of the environment that was installed from the medium."""
        return self.appliance / "opt/sealift/current/server/bin"


def connected_side(demo: Demo) -> None:
    """Chapters a to d: ceremony, build, rehearsal, two rounds of signing, writing, custody."""
    stage = demo.stage
    with stage.chapter("Key ceremony: two people, root and release keys apart"):
        people = [word for person in SENDERS for word in ("--person", person)]
        stage.run("sealift-bundler", "ceremony", "hold", demo.ceremony, "--environment", "demo", *people)
    with stage.chapter("Build a release from examples/demo.toml"):
        stage.run("sealift-bundler", "build", "examples/demo.toml", "--work", demo.work)
    with stage.chapter("Rehearse it: an install without a network that answers"):
        stage.run("sealift-bundler", "rehearse", demo.work)
    with stage.chapter("Attest, and sign in two rounds"):
        sizes = ["--capacity", VOLUME_SIZE, "--seal", "1=DS-0001", "--capacity", VOLUME_SIZE, "--seal", "2=DS-0002"]
        common: list[str | Path] = ["--ceremony", demo.ceremony, "--person"]
        stage.run("sealift-bundler", "attest", demo.work, *common, "ada", *sizes, "--place", "Bundling room")
        stage.run("sealift-bundler", "sign", demo.work, *common, "ada", "--yes")
        stage.run("sealift-bundler", "sign", demo.work, *common, "ben", "--yes")
        stage.run("sealift-bundler", "seal", demo.work, *common, "ada")
    with stage.chapter("Write two volumes and read every byte back"):
        targets = [demo.out / "media" / f"volume-{number}" for number in (1, 2)]
        for target in targets:
            target.mkdir(parents=True)
        (demo.out / "images").mkdir()
        stage.run(
            "sealift-bundler", "write", demo.work, *targets, "--ceremony", demo.ceremony,
            "--person", "ada", "--to", "Chris Courier", "--place", "Bundling room",
        )  # fmt: skip
        stage.run(
            "sealift-bundler", "remake", demo.work, demo.out / "images/volume-1.img", "--volume", "1",
            "--format", "ext4", "--ceremony", demo.ceremony, "--person", "ada",
        )  # fmt: skip
        _lift_file_system(demo.out / "images/volume-1.img", demo.out / "images/volume-1.ext4")
    with stage.chapter("Hand the volumes over, once on paper"):
        for volume, seal in zip(demo.volumes, ("DS-0001", "DS-0002"), strict=True):
            stage.run(
                "sealift-bundler", "custody", "hand-over", volume, "--ceremony", demo.ceremony, "--person", "ben",
                "--from", "Chris Courier", "--to", "Goods-in, Demo Hospital", "--place", "Loading dock",
                "--seal", seal, "--condition", "seal unbroken", "--paper",
            )  # fmt: skip
        stage.run("sealift-bundler", "check", *demo.volumes, "--ceremony", demo.ceremony)


def receiving(demo: Demo) -> None:
    """Chapter e: ledger and promoter run, the release is received and installed from its own wheels."""
    stage = demo.stage
    write_site_file(demo)
    sheet = next(demo.work.rglob("sheet.txt"))
    with stage.chapter("The trust sheet, which travels apart from the media"):
        print(sheet.read_text())
    code = sha256((demo.volumes[0] / "release/tagmanifest-sha256.txt").read_bytes()).hexdigest()
    with stage.chapter("First trust: two people type the code, the root is pinned"):
        root = demo.volumes[0] / "release/metadata/1.root.json"
        stage.run("sealift", "trust", "pin", "--root", root, "--code", code, "--code", code)
    with stage.chapter("Start ledger and promoter, receive as the appliance"):
        stage.run("sealift", "run-units", "sealift-ledger.service", "sealift-promoter.service", "--background")
        stage.run("sealift", "receive", *demo.volumes)
    with stage.chapter("Install the server from the medium's wheels: no index, no network"):
        stage.run("sealift", "install")
        stage.run("sealift", "run-units", "--stop")
        stage.tools = demo.installed
        stage.note("From here on `sealift` is the one that came on the medium.")
    demo.facts["code"] = code


def promoting(demo: Demo) -> None:
    """Chapter f: people enrol, the version is validated, approved by two and promoted."""
    stage = demo.stage
    with stage.chapter("Start all units; the first two people enrol with one-time codes"):
        addresses = stage.ask("sealift", "run-units", "--background")["addresses"]
        demo.facts["gateway"], demo.facts["admin"] = addresses["gateway"], addresses["admin"]
        demo.people = people = [
            make_person(demo.out / "site-people", "iris", "Iris Mora"),
            make_person(demo.out / "site-people", "omar", "Omar Haddad"),
        ]
        codes = stage.ask("sealift", "people", "codes")["codes"]
        for person, code in zip(people, codes, strict=True):
            enrol(stage, person, code)
    with stage.chapter("Validate the version in test"):
        stage.run("sealift", "validate", MODEL)
    try_out(stage, test=addresses["test"], production=addresses["gateway"], model=MODEL, person="iris")
    with stage.chapter("Two different people approve, then it is promoted"):
        stage.run("sealift", "promote", MODEL, "--as", "iris")
        for person in people:
            stage.run("sealift", "approve", MODEL, "--as", person.id, "--gnupg-home", person.home, "--yes")
        stage.run("sealift", "promote", MODEL, "--as", "iris")


def enrol(stage: Stage, person: SitePerson, code: str) -> None:
    """Enrol one person; the password goes through standard input, never through arguments."""
    stage.run(
        "sealift", "people", "enrol", "--code", code, "--id", person.id, "--name", person.name,
        "--certificate", person.certificate, "--password-file", "-", feed=person.password + "\n",
    )  # fmt: skip


def answering(demo: Demo) -> None:
    """Chapters g and h: two questions, the audit record, the proof."""
    stage = demo.stage
    base = f"{demo.facts['gateway']}/v1"
    with stage.chapter("Ask with the official openai client"):
        made = stage.ask(
            "sealift", "keys", "create", "--department", "radiology", "--owner", "demo", "--phi", "tokenise"
        )
        key = demo.facts["key"] = str(made["key"])
        plain = ask(base, key)
        stage.note(f"{plain.request_id}: {plain.text}")
        streamed = ask_streamed(base, key)
        stage.note(f"{streamed.request_id}: replaced on the way in, restored on the way out: {streamed.phi}")
        require(streamed.phi != "", "identifiers were seen")
        require(not left_over(streamed.text), "every stand-in was restored")
    with stage.chapter("Vectors of texts, from the same weights in a context of their own"):
        vectors = embed(base, key)
        stage.note(
            f"{vectors.request_id}: {vectors.count} vectors of {vectors.dimensions} numbers, {vectors.tokens} tokens"
        )
        require(vectors.count == len(TEXTS), "each text has a vector of its own")
        require(vectors.model_digest == plain.model_digest, "the version that answers makes them")
    with stage.chapter("The audit record"):
        records = stage.ask("sealift", "audit", "list", "--request", streamed.request_id)
        print(json.dumps(records, indent=2))
    with stage.chapter("Prove the origin of both answers"):
        for answered in (plain, streamed):
            stage.run("sealift", "prove", answered.request_id)
        proof = stage.ask("sealift", "prove", plain.request_id)
    demo.facts |= {"plain": plain, "proof": proof, "vectors": vectors}


def rolling_out(demo: Demo) -> None:
    """Chapter i: a second version, by a canary; and back."""
    demo.facts["rollout"] = roll_out(
        demo.stage,
        base=f"{demo.facts['gateway']}/v1",
        key=demo.facts["key"],
        model=MODEL,
        sibling=SIBLING,
        people=demo.people,
    )


def summarise(demo: Demo) -> None:
    """Write summary.json."""
    plain: Answered = demo.facts["plain"]
    proof: dict[str, Any] = demo.facts["proof"]
    vectors: Embedded = demo.facts["vectors"]
    data = {step["name"]: step["data"] for step in proof["steps"]}
    summary = {
        "request_id": plain.request_id,
        "answer": plain.text,
        "vectors": {"request_id": vectors.request_id, "dimensions": vectors.dimensions},
        "model_digest": plain.model_digest,
        "release": data["release"]["release"],
        "audit_sequence": data["request"]["sequence"],
        "proof_ok": proof["ok"],
        "rollout": demo.facts["rollout"],
        "seconds": demo.stage.times,
    }
    (demo.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    require(proof["ok"] is True, "the proof holds")


def write_site_file(demo: Demo) -> None:
    """Write the site file, and env.sh for trying commands by hand."""
    for folder in (demo.config.parent, demo.appliance / "var/lib/sealift"):
        folder.mkdir(parents=True)
    demo.config.write_text(
        f'format = 1\nsite = "{SITE}"\nenvironment = "demo"\n\n'
        f'[places]\nroot = "{demo.appliance}"\nrun = "{demo.run}"\n\n'
        "[service]\ngateway_port = 0\nadmin_port = 0\nmetrics_port = 0\n"
    )
    demo.stage.environment["SEALIFT_CONFIG"] = str(demo.config)
    # Each environment has both commands; the one from the medium lacks what makes releases.
    commands, ports = demo.out / "bin", demo.out / "run/ports.json"
    commands.mkdir()
    for name, folder in (("sealift", demo.installed), ("sealift-bundler", ROOT / ".venv/bin")):
        (commands / name).symlink_to(folder / name)
    (demo.out / "env.sh").write_text(
        "# Source this: `sealift` (from the medium) and `sealift-bundler` on PATH, with the demo's configuration.\n"
        f'export SEALIFT_CONFIG="{demo.config}"\n'
        f'export SEALIFT_CEREMONY="{demo.ceremony}"\n'
        f'export PATH="{commands}:{ROOT / ".venv/bin"}:$PATH"\n'
        "# Where the gateway listens, if it runs: at another port after each start.\n"
        f'[ ! -e "{ports}" ] || export SEALIFT_URL="$(python3 -c \'{ADDRESS}\' "{ports}")"\n'
    )


def prepare(out: Path, *, tools: Path) -> Demo:
    """Clear what an earlier run left; refuse a folder that is not one of ours."""
    if out.exists() and any(out.iterdir()) and not (out / ".sealift-demo").exists():
        message = f"{out.name} holds other data; choose another folder with --out"
        raise StageError(message)
    stop_earlier(out, tools)
    for entry in out.iterdir() if out.exists() else ():
        remove(entry)
    out.mkdir(parents=True, exist_ok=True)
    out.chmod(0o700)
    (out / ".sealift-demo").touch()
    run = out / "run"
    if len(str(run)) > LONGEST_RUN:
        run = Path(tempfile.mkdtemp(prefix="sealift-"))
        (out / "run").symlink_to(run)
    return Demo(out=out, run=run, stage=Stage(ROOT, tools=tools, environment={}))


def stop_earlier(out: Path, tools: Path) -> None:
    """Stop the units of an earlier run that was kept."""
    config = out / "appliance/etc/sealift/sealift.toml"
    if config.exists() and (out / "run/units.sock").exists():
        stage = Stage(ROOT, tools=tools, environment={"SEALIFT_CONFIG": str(config)})
        stage.run("sealift", "run-units", "--stop", quiet=True)
    if (out / "run").is_symlink():
        shutil.rmtree((out / "run").readlink(), ignore_errors=True)


def remove(entry: Path) -> None:
    """Remove a file or folder, also one that is read-only."""
    if entry.is_dir() and not entry.is_symlink():
        for folder, _, _ in os.walk(entry):
            Path(folder).chmod(stat.S_IRWXU)
        shutil.rmtree(entry)
    else:
        entry.unlink()


def _lift_file_system(stick: Path, image: Path) -> None:
    """Write the file system of a stick's one partition into a file of its own, to be looked into by e2fsprogs."""
    with stick.open("rb") as source, image.open("xb") as target:
        source.seek(2**20)  # where the partition of every stick begins (docs/operator/media.md)
        shutil.copyfileobj(source, target, 4 * 2**20)


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(prog="make demo", description="The whole line with a real model, without root.")
    parser.add_argument("--keep", action="store_true", help="leave the services running")
    parser.add_argument("--out", type=Path, default=ROOT / "build/demo")
    arguments = parser.parse_args()
    began = time.monotonic()
    os.umask(0o077)
    try:
        demo = prepare(arguments.out.resolve(), tools=ROOT / ".venv/bin")
    except StageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    demo.stage.note("No root: no Ansible, no users of their own, no packet filter. `make box` shows those.")
    try:
        connected_side(demo)
        receiving(demo)
        promoting(demo)
        answering(demo)
        rolling_out(demo)
        summarise(demo)
    except StageError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    finally:
        finish(demo, keep=arguments.keep)
    print(f"\nAll of it took {time.monotonic() - began:.0f} s. Written: {arguments.out.name}/summary.json")
    print(f"Try it by hand:  . {demo.out / 'env.sh'}")
    return 0


def finish(demo: Demo, *, keep: bool) -> None:
    """Leave the services running or stop them, and say where the page is."""
    for home in demo.out.glob("site-people/*/gnupg"):
        stop_agents(home)
    if keep and "admin" in demo.facts:
        print(f"\nThe page: {demo.facts['admin']}/   The API: {demo.facts['gateway']}/v1")
        print("Log in as iris with: a throwaway password of iris.  Stop all of it with: sealift run-units --stop")
        return
    if (demo.run / "units.sock").exists():
        demo.stage.run("sealift", "run-units", "--stop", quiet=True)
    if "admin" in demo.facts:
        print(f"\nThe page was at {demo.facts['admin']}/ (with `make demo KEEP=1` it stays there).")


if __name__ == "__main__":
    raise SystemExit(main())
