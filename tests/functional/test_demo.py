"""What `make demo` left behind, tried by hand with nothing running. Run the demo first (shard demo does)."""

import json
import os
import shutil
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = Path(os.environ.get("SEALIFT_DEMO", str(ROOT / "build/demo")))

pytestmark = pytest.mark.demo


def shell(line: str, *, check: bool = True) -> "subprocess.CompletedProcess[str]":
    """Run a line as a person would, after sourcing env.sh."""
    done = subprocess.run(
        ["bash", "-c", f'. "{DEMO}/env.sh" && cd "{DEMO}" && {line}'],
        capture_output=True,
        text=True,
        check=False,
        env={
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": os.environ.get("HOME", "/"),
        },
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def summary() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEMO / "summary.json").read_text())
    return found


def trust_record() -> bytes:
    return (DEMO / "appliance/var/lib/sealift/trust/state.json").read_bytes()


@pytest.fixture
def medium(tmp_path: Path) -> list[Path]:
    """A copy of the demo's media, to be spoiled."""
    copies = []
    for volume in sorted((DEMO / "media").glob("volume-*")):
        copies.append(tmp_path / volume.name)
        shutil.copytree(volume, copies[-1])
    return copies


def flip(path: Path, offset: int = 0) -> None:
    path.chmod(0o600)
    with path.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte[0] ^ 1]))


def test_both_commands_are_the_ones_that_a_person_needs() -> None:
    assert "rehearse" in shell("sealift-bundler --help").stdout, "not the one of the medium, which lacks libraries"
    assert shell("sealift --version").stdout.startswith("sealift ")
    installed = shell('readlink -f "$(command -v sealift)"').stdout.strip()
    assert installed.startswith(str(DEMO / "appliance/opt/sealift/releases"))


def test_the_summary_holds_what_other_programs_read() -> None:
    found = summary()

    assert found["proof_ok"] is True
    assert found["request_id"].startswith("req_")
    assert len(found["model_digest"]) == 64
    assert isinstance(found["audit_sequence"], int)
    assert found["release"]
    assert "Paris" in found["answer"]


def test_two_real_models_shared_the_callers_and_going_back_took_seconds() -> None:
    seen = summary()["rollout"]

    assert seen["production"] == summary()["model_digest"] != seen["sibling"]
    assert min(seen["answers"].values()) >= 2
    assert sum(seen["answers"].values()) == 2 * seen["callers"]
    assert seen["affected"] >= seen["answers"]["canary"] + 2
    assert seen["verdict"] == "going"
    assert 0 < seen["rollback_seconds"] <= seen["rollback_command_seconds"]


def test_the_ledger_has_every_step_of_the_rollout_in_order() -> None:
    shown = json.loads(shell("sealift --json audit list --kind promotion. --oldest --limit 50").stdout)
    wanted = ["made", "canary-started", "cut-over", "rolled-back"]
    steps = [one["kind"].removeprefix("promotion.") for one in shown["leaves"]]

    assert [step for step in steps if step in wanted][:4] == wanted


def test_the_same_media_are_read_and_checked_again_with_nothing_running() -> None:
    done = shell("sealift --json receive media/volume-*/")

    facts = json.loads(done.stdout)
    assert facts["outcome"] == "reverified"
    assert facts["moved"]["read_bytes"] > 100_000_000


def test_the_proof_holds_with_nothing_running_and_names_every_step() -> None:
    done = shell(f"sealift --json prove {summary()['request_id']}")

    proof = json.loads(done.stdout)
    assert proof["ok"] is True
    assert {step["name"] for step in proof["steps"]} >= {
        "request", "answer", "version", "weights", "release", "media", "custody", "gates", "approvals", "ledger",
    }  # fmt: skip
    assert all(step["ok"] for step in proof["steps"])


def test_vectors_are_proven_like_answers() -> None:
    proof = json.loads(shell(f"sealift --json prove {summary()['vectors']['request_id']}").stdout)

    assert proof["ok"] is True
    assert summary()["vectors"]["dimensions"] == 576
    assert summary()["model_digest"] in json.dumps(proof)


def test_the_record_of_the_answer_is_at_the_sequence_of_the_summary() -> None:
    done = shell(f"sealift --json audit show {summary()['audit_sequence']}")

    assert summary()["request_id"] in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "doctor",
        "models list",
        "history",
        "audit list",
        "audit verify",
        "trust show",
        "keys list",
        "install --dry-run",
    ],
)
def test_commands_that_only_look_work_with_nothing_running(command: str) -> None:
    done = shell(f"sealift {command}")

    assert done.stdout.strip()


def test_what_validation_measured_is_told_and_lies_where_production_reads_it() -> None:
    models = json.loads(shell("sealift --json models variants").stdout)["models"]
    told = {one["model_digest"]: one for levels in models.values() for one in levels}
    laid = {path.name.partition(".")[0]: path for path in (DEMO / "appliance/opt/sealift/engines").glob("*.steps.json")}

    assert all(one["speeds"] and one["speeds"][0]["tokens_per_second"] > 0 for one in told.values())
    assert laid
    assert {digest[:12] for digest in told} >= set(laid)
    for digest, one in told.items():
        if digest[:12] in laid:
            assert json.loads(laid[digest[:12]].read_bytes())["threads"] == one["threads"]


def test_a_flipped_bit_in_the_weights_is_refused_and_nothing_moves(medium: list[Path]) -> None:
    before = trust_record()
    part = max(
        (path for volume in medium for path in volume.rglob("*") if path.is_file()), key=lambda one: one.stat().st_size
    )
    flip(part, offset=part.stat().st_size // 2)

    done = shell(f"sealift receive {medium[0]} {medium[1]}", check=False)

    assert done.returncode == 15, done.stderr
    assert [line.split(":")[0].strip() for line in done.stderr.strip().splitlines()[-3:]] == ["error", "why", "fix"]
    assert trust_record() == before


def test_weights_that_changed_in_the_store_are_not_proven() -> None:
    proof = json.loads(shell(f"sealift --json prove {summary()['request_id']}").stdout)
    digest = next(step for step in proof["steps"] if step["name"] == "weights")["data"]["weights_digest"]
    path = DEMO / f"appliance/var/lib/sealift/store/objects/sha256/{digest[:2]}/{digest}"
    mode = stat.S_IMODE(path.stat().st_mode)
    flip(path, offset=1000)
    try:
        done = shell(f"sealift prove {summary()['request_id']}", check=False)
    finally:
        flip(path, offset=1000)
        path.chmod(mode)

    assert done.returncode == 92, done.stdout
    assert "✗ weights" in done.stdout


def test_the_image_is_a_whole_file_system_with_the_volume_in_it() -> None:
    image = next((DEMO / "images").glob("*.ext4"))

    assert subprocess.run(["/sbin/e2fsck", "-fn", str(image)], capture_output=True, check=False).returncode == 0
    listed = subprocess.run(
        ["/sbin/debugfs", "-R", "ls /release", str(image)], capture_output=True, text=True, check=True
    ).stdout
    assert "tagmanifest-sha256.txt" in listed


def test_private_folders_are_for_their_owner_alone() -> None:
    for folder in [DEMO, *DEMO.rglob("gnupg"), DEMO / "appliance/etc/sealift/keys"]:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder


def test_the_server_came_from_the_medium() -> None:
    done = shell('readlink "$(command -v sealift)"')

    assert "appliance/opt/sealift/current/server/bin/sealift" in done.stdout


def test_no_question_and_no_identifier_is_anywhere_in_the_appliance() -> None:
    canaries = [b"123-45-6789", b"00451234", b"France? Answer in one sentence"]  # the tasks ask in other words
    found = [
        path.name
        for path in (DEMO / "appliance/var").rglob("*")
        if path.is_file() and "objects" not in path.parts and any(canary in path.read_bytes() for canary in canaries)
    ]

    assert found == []


@pytest.fixture
def running() -> Iterator[dict[str, str]]:
    """The demo's units, running again; yields the loopback addresses by door."""
    started = json.loads(shell("sealift --json run-units --background").stdout)
    yield started["addresses"]
    shell("sealift run-units --stop")


def test_the_units_come_back_and_the_real_engine_keeps_the_contract(running: dict[str, str]) -> None:
    sockets = sorted((DEMO / "run").resolve().glob("engine-production-*.sock"))
    assert len(sockets) == 1

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:randomly",
            "-k",
            "real",
            "tests/functional/test_engine_contract.py",
            "tests/functional/test_structured_for_real.py",
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "SEALIFT_ENGINE_SOCKET": str(sockets[0]),
            "SEALIFT_ENGINE_OFFERS": "embeddings,logprobs,response_format,tools",
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-4000:]


def test_one_person_stops_production_and_callers_get_a_clear_503(running: dict[str, str]) -> None:
    key = json.loads(shell("sealift --json keys create --department audit --owner test --phi tokenise").stdout)["key"]
    question = {"model": "production", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    assert asked(running["gateway"], key, question) == 200

    shell("sealift stop --as omar --reason 'the night shift saw nonsense'")
    stopped = asked(running["gateway"], key, question)
    # Going forward again takes two people, as the first time.
    shell("sealift promote smollm2-135m-instruct --as iris")
    for person in ("iris", "omar"):
        shell(f"sealift approve smollm2-135m-instruct --as {person} --gnupg-home site-people/{person}/gnupg --yes")
    shell("sealift promote smollm2-135m-instruct --as iris")

    assert stopped == 503
    assert asked(running["gateway"], key, question) == 200


def asked(base: str, key: str, question: dict[str, Any]) -> int:
    request = urllib.request.Request(  # noqa: S310 - loopback, made by run-units
        f"{base}/v1/chat/completions",
        data=json.dumps(question).encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
