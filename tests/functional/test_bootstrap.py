"""First trust from a checked copy, run as its own program, below a folder; genuine media, then spoilt ones."""

import importlib.util
import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.audit.spool import Spool
from media.canonical import dumps
from tests.support.installable import requirement, wheel
from tests.support.medium import SimulatedMedium, make_medium, tiny_payload

pytestmark = pytest.mark.slow  # whole commands and processes, seconds in all

_TELLS = """
import json, sys
def main():
    print(json.dumps({"receive": sys.argv[1:]}))
"""


def payload() -> dict[str, bytes]:
    """Return a payload whose server environment brings a `sealift` that tells what it was called with."""
    name, content = wheel(
        "sealift",
        "1.0",
        {
            "sealift_tells.py": _TELLS,
            "sealift-1.0.dist-info/entry_points.txt": "[console_scripts]\nsealift = sealift_tells:main\n",
        },
    )
    files = tiny_payload()
    files[f"data/wheels/{name}"] = content
    files["data/server/requirements-server.txt"] = requirement("sealift", "1.0", content).encode()
    return files


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> SimulatedMedium:
    return make_medium(tmp_path_factory.mktemp("sealed") / "m", files=payload())


@pytest.fixture
def medium(sealed: SimulatedMedium, tmp_path: Path) -> SimulatedMedium:
    return sealed.copy_to(tmp_path / "m")


def copy_of(medium: SimulatedMedium, place: Path) -> Path:
    """Make the copy that the trust sheet's commands make."""
    release = medium.volumes[0] / "release"
    place.mkdir()
    for path in [*release.glob("*.txt"), *release.glob("*.sig")]:
        shutil.copy(path, place)
    for name in ("metadata", "attest", "check"):
        shutil.copytree(release / name, place / name)
    return place


def bootstrap(
    copy: Path, medium: SimulatedMedium, root: Path, *, typed: str | None = None, options: tuple[str, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    code = medium.code
    answers = f"Ada Admin\n{code}\nBen Boss\n{code}\n" if typed is None else typed
    media = [part for volume in medium.volumes for part in ("--medium", str(volume))]
    return subprocess.run(
        [sys.executable, "-I", copy / "check/bootstrap.py", *media, "--root", root, *options],
        input=answers,
        capture_output=True,
        text=True,
        check=False,
    )


def test_two_people_pin_the_root_and_receiving_takes_over(medium: SimulatedMedium, tmp_path: Path) -> None:
    root, copy = tmp_path / "box", copy_of(medium, tmp_path / "copy")
    groups = " ".join(medium.code[start : start + 8] for start in range(0, 64, 8)).upper()

    done = bootstrap(
        copy,
        medium,
        root,
        typed=f"Ada Admin\n{groups}\nBen Boss\n{groups}\n",
        options=("--accept-custody", "Ada Admin"),
    )
    again = bootstrap(copy, medium, root)

    pinned = root / "etc/sealift/trust/1.root.json"
    told = json.loads(done.stdout.splitlines()[-1])
    facts = [json.loads(path.read_bytes()) for path in Spool(root / "var/lib/sealift/spool").pending()]
    assert (done.returncode, again.returncode) == (0, 0), done.stderr + again.stderr
    assert medium.code not in done.stdout + done.stderr
    assert pinned.read_bytes() == medium.root_json
    assert stat.S_IMODE(pinned.stat().st_mode) == 0o444
    assert told["receive"] == [
        *["--config", str(root / "etc/sealift/sealift.toml"), "receive"],
        *[str(volume) for volume in medium.volumes],
        *["--accept-custody", "Ada Admin"],
    ]
    assert 'site = "demo-clinic"' in (root / "etc/sealift/sealift.toml").read_text()
    assert [fact["kind"] for fact in facts] == ["trust.pinned"]
    assert facts[0]["body"]["people"] == ["Ada Admin", "Ben Boss"]
    assert facts[0]["body"]["code"] == medium.code


def test_a_rehearsals_root_is_believed_once_and_never_pinned(tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m", files=payload(), environment="rehearsal")
    root, copy = tmp_path / "box", copy_of(medium, tmp_path / "copy")

    done = bootstrap(copy, medium, root)

    told = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    assert told["receive"][-2:] == ["--trust-root", str(copy / "metadata/1.root.json")]
    assert 'environment = "rehearsal"' in (root / "etc/sealift/sealift.toml").read_text()
    assert not (root / "etc/sealift/trust").exists()
    assert not (root / "var/lib/sealift/spool").exists()


def test_the_expected_code_is_never_shown(medium: SimulatedMedium, tmp_path: Path) -> None:
    done = bootstrap(copy_of(medium, tmp_path / "copy"), medium, tmp_path / "box", typed=f"Ada\n{'0' * 64}\n")

    assert done.returncode == 26
    assert medium.code not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "answers",
    [
        "Ada\n{code}\nAda\n{code}\n",
        "Ada\n{code}\nada\n{code}\n",
        "Ada\n{code}\n\n{code}\n",
        "Ada\n{code}\nBen\n{other}\n",
        "Ada\n{code}\n",
        "",
    ],
)
def test_one_person_alone_pins_nothing(medium: SimulatedMedium, tmp_path: Path, answers: str) -> None:
    copy = copy_of(medium, tmp_path / "copy")

    done = bootstrap(copy, medium, tmp_path / "box", typed=answers.format(code=medium.code, other="1" * 64))

    assert done.returncode == 26
    assert not (tmp_path / "box").exists()


def change(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"#")


@pytest.mark.parametrize(
    ("spoil", "ending"),
    [
        (lambda copy, _: change(copy / "check/VERIFY.txt"), 15),
        (lambda copy, _: change(copy / "metadata/1.root.json"), 15),
        (lambda copy, _: (copy / "metadata/1.root.json").unlink(), 11),
        (lambda copy, _: (copy / "metadata/extra.json").write_bytes(b"{}"), 12),
        (lambda copy, _: (copy / "metadata/link.json").symlink_to("1.root.json"), 12),
        (lambda copy, medium: (copy / medium.signature("bob").name).unlink(), 21),
        (lambda copy, medium: change(copy / medium.signature("bob").name), 20),
        (
            lambda copy, medium: shutil.copy(
                copy / medium.signature("alice").name, copy / medium.signature("bob").name
            ),
            20,
        ),
    ],
)
def test_a_copy_that_is_not_what_was_sealed_pins_nothing(
    medium: SimulatedMedium, tmp_path: Path, spoil: Callable[[Path, SimulatedMedium], Any], ending: int
) -> None:
    copy = copy_of(medium, tmp_path / "copy")
    spoil(copy, medium)

    done = bootstrap(copy, medium, tmp_path / "box")

    assert done.returncode == ending, done.stderr
    assert not (tmp_path / "box/etc/sealift/trust").exists()


def test_a_wheel_that_is_not_the_signed_one_is_never_installed(medium: SimulatedMedium, tmp_path: Path) -> None:
    copy = copy_of(medium, tmp_path / "copy")
    medium.flip_bit("data/wheels/sealift-1.0-py3-none-any.whl", offset=60)

    done = bootstrap(copy, medium, tmp_path / "box")

    assert done.returncode == 15
    assert not (tmp_path / "box/opt/sealift/bootstrap").exists()
    assert not (tmp_path / "box/etc/sealift/trust").exists()


def test_a_program_on_the_medium_is_refused(medium: SimulatedMedium, tmp_path: Path) -> None:
    done = bootstrap(medium.volumes[0] / "release", medium, tmp_path / "box")

    assert done.returncode == 2
    assert "copy" in done.stderr


def test_another_volumes_copy_is_refused(medium: SimulatedMedium, tmp_path: Path) -> None:
    copy = copy_of(medium, tmp_path / "copy")
    medium.volumes = medium.volumes[1:]

    assert bootstrap(copy, medium, tmp_path / "box").returncode == 14


def test_a_missing_volume_is_named_by_what_it_would_bring(medium: SimulatedMedium, tmp_path: Path) -> None:
    copy = copy_of(medium, tmp_path / "copy")
    medium.remove("data/server/requirements-server.txt")

    done = bootstrap(copy, medium, tmp_path / "box")

    assert done.returncode == 17
    assert "requirements-server.txt" in done.stderr


def test_another_root_is_never_pinned(medium: SimulatedMedium, tmp_path: Path) -> None:
    pinned = tmp_path / "box/etc/sealift/trust/1.root.json"
    pinned.parent.mkdir(parents=True)
    pinned.write_bytes(dumps({"another": 1}))

    done = bootstrap(copy_of(medium, tmp_path / "copy"), medium, tmp_path / "box")

    assert done.returncode == 28
    assert pinned.read_bytes() == dumps({"another": 1})


@pytest.mark.parametrize(
    ("said", "options", "ending"),
    [
        ('site = "demo-clinic"\nenvironment = "production"', (), 29),
        ('site = "other"\nenvironment = "demo"', (), 24),
        ('site = "demo-clinic"\nenvironment = "demo"', ("--site", "other"), 24),
        ("site = ", (), 10),
    ],
)
def test_nothing_is_built_or_pinned_on_a_box_of_another_kind(
    medium: SimulatedMedium, tmp_path: Path, said: str, options: tuple[str, ...], ending: int
) -> None:
    site_file = tmp_path / "box/etc/sealift/sealift.toml"
    site_file.parent.mkdir(parents=True)
    site_file.write_text(f"format = 1\n{said}\n")

    done = bootstrap(copy_of(medium, tmp_path / "copy"), medium, tmp_path / "box", options=options)

    assert done.returncode == ending, done.stderr
    assert [path.name for path in (tmp_path / "box").rglob("*") if path.is_file()] == ["sealift.toml"]


def test_facts_of_others_that_wait_for_the_ledger_stay(medium: SimulatedMedium, tmp_path: Path) -> None:
    spool = tmp_path / "box/var/lib/sealift/spool"
    spool.mkdir(parents=True)
    for name, kind in (("000001-aaaaaaaa.json", "release.refused"), ("000001-bbbbbbbb.json", "trust.pinned")):
        (spool / name).write_bytes(dumps({"format": 1, "kind": kind, "at": "2026-01-01T00:00:00Z", "body": {}}))

    assert bootstrap(copy_of(medium, tmp_path / "copy"), medium, tmp_path / "box").returncode == 0

    assert (spool / "000001-aaaaaaaa.json").exists()
    kinds = [json.loads(path.read_bytes())["kind"] for path in spool.glob("*.json")]
    assert sorted(kinds) == ["release.refused", "trust.pinned"]


def test_people_without_the_release_role_need_no_openpgp_key(medium: SimulatedMedium, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        "bootstrap", copy_of(medium, tmp_path / "copy") / "check/bootstrap.py"
    )
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    root = json.loads(medium.root_json)["signed"]
    root["x-sealift-people"].insert(0, {"id": "rita", "name": "Rita", "roles": ["rehearsal"], "openpgp": None})

    assert sorted(program.check_signatures(tmp_path / "copy", root).values()) == ["Alice Archer", "Bob Baker"]


def test_a_release_for_several_sites_asks_which_one_this_is(tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m", files=payload(), sites=("north", "south"))
    copy = copy_of(medium, tmp_path / "copy")

    unsaid = bootstrap(copy, medium, tmp_path / "a")
    wrong = bootstrap(copy, medium, tmp_path / "b", options=("--site", "west"))
    medium.flip_bit("data/server/requirements-server.txt")
    right = bootstrap(copy, medium, tmp_path / "c", options=("--site", "south"))

    assert (unsaid.returncode, wrong.returncode, right.returncode) == (2, 2, 15)
    assert 'site = "south"' in (tmp_path / "c/etc/sealift/sealift.toml").read_text()
