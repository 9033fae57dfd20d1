"""A medium made by us, checked without our code: coreutils, gpgv, the stand-alone verifier, python-tuf's own client."""

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater  # type: ignore[attr-defined]  # no __all__
from tuf.ngclient.fetcher import FetcherInterface

from media import layout
from media.layout import BLOCK_BYTES
from tests.support.gpg import GnuPG
from tests.support.medium import SimulatedMedium, make_medium, tiny_payload

pytestmark = pytest.mark.interop

ROOT = Path(__file__).resolve().parents[2]
VERIFY = ROOT / "bundler" / "check" / "verify.py"
WHEEL = "data/wheels/tiny-1.0-py3-none-any.whl"
BARE = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


@pytest.fixture
def medium(tmp_path: Path) -> SimulatedMedium:
    return make_medium(tmp_path / "m")


def shell(script: str, *, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", "-c", script], cwd=folder, env=BARE, capture_output=True, text=True, check=False
    )


def second_opinion(*arguments: object, script: Path = VERIFY) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(script), *map(str, arguments)]
    return subprocess.run(command, env=BARE, capture_output=True, text=True, check=False)


def test_coreutils_find_every_file_as_listed_and_none_beside(medium: SimulatedMedium) -> None:
    for volume in medium.volumes:
        release = volume / layout.RELEASE
        sums = shell("sha256sum --check --strict --quiet tagmanifest-sha256.txt manifest-sha256.txt", folder=release)
        found = shell(
            r"find . -type f ! -name 'tagmanifest-sha256.txt*' | sed 's|^\./||' | LC_ALL=C sort", folder=release
        )
        listed = shell("cat manifest-sha256.txt tagmanifest-sha256.txt | cut -c 67- | LC_ALL=C sort", folder=release)

        assert (sums.returncode, sums.stdout) == (0, "")
        assert found.stdout == listed.stdout


def test_gpgv_knows_each_signer_by_the_certificate_on_the_medium(medium: SimulatedMedium) -> None:
    for volume in medium.volumes:
        for person in ("alice", "bob"):
            fingerprint = medium.fingerprint(person)
            done = shell(
                f"gpgv --status-fd 1 --keyring ./check/signers/{fingerprint}.gpg"
                f" tagmanifest-sha256.txt.{fingerprint}.sig tagmanifest-sha256.txt",
                folder=volume / layout.RELEASE,
            )

            assert done.returncode == 0
            assert re.search(rf"^\[GNUPG:\] VALIDSIG .* {fingerprint}$", done.stdout, re.MULTILINE)


def first_trust(medium: SimulatedMedium, place: Path) -> Iterator[tuple[str, subprocess.CompletedProcess[str]]]:
    """Run the sheet's commands, typed as they stand there, on a shell that has nothing but Debian's base."""
    page = medium.sheet.replace("/root/sealift-first", str(place)).replace("\\\n", "")
    copy = next(line for line in page.splitlines() if line.startswith("mkdir"))
    yield copy, shell(f"MEDIUM={medium.volumes[0]}\n{copy}", folder=place.parent)
    for command in re.findall(r"^[1-9]\. ((?:echo|gpgv|sha256sum) .*)$", page, re.MULTILINE):
        yield command, shell(command, folder=place)


def test_the_sheets_commands_work_as_they_stand(medium: SimulatedMedium, tmp_path: Path) -> None:
    outcomes = [done for _, done in first_trust(medium, tmp_path / "first")]

    assert [done.returncode for done in outcomes] == [0] * 5
    assert outcomes[1].stdout == "tagmanifest-sha256.txt: OK\n"
    for done, person in zip(outcomes[2:4], ("alice", "bob"), strict=True):
        assert len(re.findall(r"^\[GNUPG:\] GOODSIG ", done.stdout, re.MULTILINE)) == 1
        assert re.search(rf"^\[GNUPG:\] VALIDSIG .* {medium.fingerprint(person)}$", done.stdout, re.MULTILINE)
    assert outcomes[4].stdout == "COMPLETE\n"
    assert not (tmp_path / "first" / "data").exists()


def test_the_copy_holds_no_link_to_the_medium(medium: SimulatedMedium, tmp_path: Path) -> None:
    verifier = medium.path(layout.SECOND_OPINION, volume=1)
    (tmp_path / "elsewhere.py").write_bytes(verifier.read_bytes())
    verifier.unlink()
    verifier.symlink_to(tmp_path / "elsewhere.py")

    list(first_trust(medium, tmp_path / "first"))

    assert not any(path.is_symlink() for path in (tmp_path / "first").rglob("*"))


@pytest.mark.parametrize(
    ("spoil", "fails"),
    [
        (lambda m: m.flip_bit("check/VERIFY.txt", volume=1), [4]),
        (lambda m: m.flip_bit("metadata/1.root.json", offset=99, volume=1), [4]),
        (lambda m: m.flip_bit(layout.TAG_MANIFEST, volume=1), [1, 2, 3, 4]),
        (lambda m: m.signature("bob").write_bytes(m.signature("alice").read_bytes()), [3]),
    ],
    ids=["check", "root", "tag manifest", "one signature twice"],
)
def test_the_sheets_commands_see_a_changed_copy(
    medium: SimulatedMedium, tmp_path: Path, spoil: Callable[[SimulatedMedium], object], fails: list[int]
) -> None:
    spoil(medium)

    outcomes = [done.returncode for _, done in first_trust(medium, tmp_path / "first")]

    assert [number for number, code in enumerate(outcomes) if code != 0] == fails


def test_the_second_opinion_holds_for_a_genuine_medium(medium: SimulatedMedium) -> None:
    signers = [medium.fingerprint(person) for person in ("alice", "bob")]
    done = second_opinion(
        "--code", medium.code, "--signer", signers[0], "--signer", signers[1], *reversed(medium.volumes)
    )

    assert done.returncode == 0, done.stderr
    assert "HOLDS" in done.stdout


def test_the_second_opinion_on_the_medium_is_the_one_we_ship(medium: SimulatedMedium) -> None:
    done = second_opinion(*medium.volumes, script=medium.path(layout.SECOND_OPINION, volume=1))

    assert done.returncode == 0
    assert "THIS PROVES NOTHING" in done.stdout


def test_the_second_opinion_shares_no_code_with_us() -> None:
    source = VERIFY.read_text("utf-8")
    imported = set(re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE))

    assert imported <= set(sys.stdlib_module_names)
    # Whoever checks a medium reads the first part only; the ledger's is for auditors (ADR 35).
    media, _, ledger = source.partition("# The ledger: ")
    assert len(media.splitlines()) < 430
    assert 400 < len(ledger.splitlines()) < 1020


def _rename_volume(medium: SimulatedMedium) -> None:
    code = medium.path(layout.VOLUMES, volume=1)
    code.write_bytes(code.read_bytes().replace(b'"number":1', b'"number":3', 1))


def _change_digest(medium: SimulatedMedium) -> None:
    path = medium.path(layout.TAG_MANIFEST)
    data = path.read_bytes()
    path.write_bytes((b"1" if data[:1] == b"0" else b"0") + data[1:])


SPOILED: list[tuple[str, Callable[[SimulatedMedium], object], int]] = [
    ("payload bit", lambda m: m.flip_bit(WHEEL), 15),
    ("weights bit", lambda m: m.flip_bit("data/models/tiny/tiny.gguf", offset=-1), 15),
    ("metadata bit", lambda m: m.flip_bit("metadata/1.targets.json", offset=9), 15),
    ("index bit", _rename_volume, 15),
    ("another digest", _change_digest, 15),
    ("signature bit", lambda m: m.flip_bit(layout.signature_name(m.fingerprint("bob")), offset=-1), 20),
    ("empty signature", lambda m: m.truncate(layout.signature_name(m.fingerprint("bob")), 0), 20),
    ("dropped signature", lambda m: m.drop_signature("bob"), 21),
    ("one person twice", lambda m: m.sign_twice_as("alice", instead_of="bob"), 20),
    ("extra payload", lambda m: m.add("data/extra"), 12),
    ("extra module", lambda m: m.add("check/json.py"), 12),
    ("missing payload", lambda m: m.remove(WHEEL), 11),
    ("missing evidence", lambda m: m.remove("attest/scan.dsse.json", volume=2), 11),
    ("bad name", lambda m: m.add("data/a b"), 13),
    ("longer file", lambda m: m.replace(WHEEL, bytes(99)), 15),
    ("other bagit.txt", lambda m: m.replace("bagit.txt", b"BagIt-Version: 0.97\n"), 19),
]


@pytest.mark.parametrize(("spoil", "ending"), [each[1:] for each in SPOILED], ids=[each[0] for each in SPOILED])
def test_the_second_opinion_refuses_a_spoiled_medium(
    medium: SimulatedMedium, spoil: Callable[[SimulatedMedium], object], ending: int
) -> None:
    spoil(medium)

    done = second_opinion(*medium.volumes)

    assert (done.returncode, done.stdout) == (ending, ""), done.stderr
    assert done.stderr.startswith("REFUSED: ")


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc/hostname"), os.mkfifo])
def test_the_second_opinion_opens_nothing_but_plain_files(
    medium: SimulatedMedium, make: Callable[[Path], object]
) -> None:
    path = medium.path(WHEEL)
    path.unlink()
    make(path)

    assert second_opinion(*medium.volumes).returncode == 13


def test_the_second_opinion_sees_foreign_missing_and_doubled_volumes(tmp_path: Path, medium: SimulatedMedium) -> None:
    other = make_medium(tmp_path / "o", serial=2)

    assert second_opinion(medium.volumes[0], other.volumes[1]).returncode == 14
    assert second_opinion(medium.volumes[0]).returncode == 17
    assert second_opinion(medium.volumes[0], medium.volumes[0]).returncode == 14


def test_the_second_opinion_compares_code_and_signers_with_the_sheet(medium: SimulatedMedium) -> None:
    assert second_opinion("--code", "0" * 64, *medium.volumes).returncode == 15
    assert second_opinion("--signer", "0" * 40, *medium.volumes).returncode == 21


def test_files_sealed_again_still_need_the_signed_list(medium: SimulatedMedium) -> None:
    medium.flip_bit(WHEEL)
    medium.reseal()

    assert second_opinion(*medium.volumes).returncode == 10


class FolderFetcher(FetcherInterface):
    """Hands python-tuf files of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self._folder / url.rsplit("/", 1)[1]
        if not path.is_file():
            raise DownloadHTTPError("not there", 404)
        yield path.read_bytes()


def updater(medium: SimulatedMedium, folder: Path) -> Updater:
    metadata = medium.volumes[0] / layout.RELEASE / layout.METADATA
    folder.mkdir()
    return Updater(str(folder), "file:///metadata/", fetcher=FolderFetcher(metadata), bootstrap=medium.root_json)


def test_python_tufs_own_client_takes_the_metadata(medium: SimulatedMedium, tmp_path: Path) -> None:
    client = updater(medium, tmp_path / "state")

    client.refresh()

    for path, data in medium.payload.items():
        target = client.get_targetinfo(path)
        assert target is not None
        assert (target.length, target.hashes) == (len(data), {"sha256": hashlib.sha256(data).hexdigest()})
    assert client.get_targetinfo("attest/sbom.dsse.json") is not None


def test_python_tufs_own_client_refuses_one_signer(medium: SimulatedMedium, tmp_path: Path) -> None:
    path = medium.path("metadata/1.targets.json", volume=1)
    value = json.loads(path.read_bytes())
    value["signatures"] = value["signatures"][:1]
    path.write_text(json.dumps(value), encoding="utf-8")

    with pytest.raises(Exception, match=r"signed by 1/2 keys"):
        updater(medium, tmp_path / "state").refresh()


def test_a_file_cut_for_two_volumes_is_joined_by_cat(tmp_path: Path) -> None:
    weights = bytes(BLOCK_BYTES) + b"the last block"
    medium = make_medium(tmp_path / "m", files=tiny_payload(weights=weights), volumes=2, cut=True)
    parts = sorted(str(path) for volume in medium.volumes for path in volume.rglob("tiny.gguf.*"))

    joined = shell(f"cat {' '.join(parts)} | sha256sum", folder=tmp_path)

    assert len(parts) == 2
    assert joined.stdout.split()[0] == hashlib.sha256(weights).hexdigest()
    assert second_opinion(*medium.volumes).returncode == 0


def test_the_bagit_library_finds_complete_bags(medium: SimulatedMedium) -> None:
    bagit = pytest.importorskip("bagit")

    for volume in medium.volumes:
        bagit.Bag(str(volume / layout.RELEASE)).validate()


def test_the_linux_commands_of_the_page_for_people_work(medium: SimulatedMedium) -> None:
    page = (medium.volumes[0] / layout.RELEASE / layout.VERIFY).read_text("ascii").replace("\\\n", " ")
    section = page[page.index("On Linux") : page.index("On Windows")]
    commands = re.findall(r"^ {7}((?:sha256sum|gpgv|find|cat) .*)$", section, re.MULTILINE)
    fingerprint = medium.fingerprint("alice")
    for name, value in {"FPR": fingerprint, "CODE": medium.code}.items():
        commands = [re.sub(rf"\b{name}\b", value, command) for command in commands]
    release = medium.volumes[0] / layout.RELEASE

    outcomes = {command: shell(command, folder=release) for command in commands}

    assert len(outcomes) == 6
    assert all(done.returncode == 0 for done in outcomes.values()), outcomes


def load_second_opinion() -> ModuleType:
    spec = importlib.util.spec_from_file_location("second_opinion", VERIFY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_changed_bit_of_a_signature_file_passes_the_second_opinion(medium: SimulatedMedium) -> None:
    module = load_second_opinion()
    fingerprint = medium.fingerprint("alice")
    signature = medium.signature("alice").read_bytes()
    data = medium.path(layout.TAG_MANIFEST, volume=1).read_bytes()
    keyring = medium.path(layout.certificate_name(fingerprint)).read_bytes()

    def judge(changed: bytes) -> None:
        module.require_shape(fingerprint, signature=changed, data=data)
        module.gpgv(fingerprint, keyring=keyring, signature=changed, data=data)

    for bit in range(len(signature) * 8):
        changed = bytearray(signature)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(module.RefusedError):
            judge(bytes(changed))


@pytest.mark.parametrize("algorithm", ["ed25519", "rsa3072"])
def test_the_second_opinion_takes_what_gnupg_writes(gnupg: GnuPG, algorithm: str) -> None:
    module = load_second_opinion()
    fingerprint = gnupg.key(f"second opinion {algorithm} <s@sender.example>", algorithm=algorithm)
    signature = gnupg.sign(fingerprint, b"data")

    module.require_shape(fingerprint, signature=signature, data=b"data")
    module.gpgv(fingerprint, keyring=gnupg.certificate(fingerprint), signature=signature, data=b"data")


def test_the_second_opinion_does_not_go_by_gpgvs_exit_code(gnupg: GnuPG) -> None:
    module = load_second_opinion()
    fingerprint = gnupg.key("revoked second opinion <r@sender.example>")
    signature = gnupg.sign(fingerprint, b"data")
    gnupg.revoke(fingerprint)

    with pytest.raises(module.RefusedError):
        module.gpgv(fingerprint, keyring=gnupg.certificate(fingerprint), signature=signature, data=b"data")
