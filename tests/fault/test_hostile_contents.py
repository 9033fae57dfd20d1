"""Contents that a thief of signing keys, or of nobody's, could put on a medium; a box that is told so in time.

R1 names, R6 and R7 lists and JSON, R12 the order of checks, state files cut anywhere, and disks that fail at one call.
"""

import io
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.actions import copying
from appliance.store.content import ContentStore
from appliance.store.copier import Job, Lines, run
from appliance.verify import trust
from media import bagit, canonical, layout, limits
from media.errors import MediaError, NoTrustError, SealiftError
from tests.support.copiers import finish, start
from tests.support.medium import SimulatedMedium, make_medium
from tests.support.receiving import copy_here, make_site, rotated, terms_for

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]

TARGET = "data/debs/Packages"
PARTS = (
    *(
        "..",
        ".",
        "...",
        "-rf",
        "--",
        "~",
        "~root",
        "@x",
        "+x",
        ".hidden",
        "x.",
        "x ",
        " x",
        "x y",
        "x~",
        "$HOME",
        "`id`",
    ),
    *("x;y", "x|y", "x&y", "x*", "x?", 'x"y', "x'y", "<x>", "x:y", "C:", "x%2e", "%2e%2e", "x\\y", "..\\..", "x\ty"),
    *("x\ny", "x\ry", "x\r\n", "\x01", "\x1b[2J", "\x7f", "x\x80y", "\u00e9", "e\u0301", "\u212a", "\u00df", "\u0130"),
    *(
        "\u202egpj.exe",
        "\u200bx",
        "\u2024\u2024",
        "\uff0e\uff0e",
        "\uff58",
        "\u3000",
        "\ufeffx",
        "\u0430bc",
        "\U0001f4a3",
    ),
    *("CON", "con", "Con.txt", "PRN", "AUX", "aux.c", "NUL", "nul.tar.gz", "COM1", "com9.log", "LPT1", "lpt9", "COM0"),
    *("x" * 129, "x" * 255, "\u00e9" * 120, "(x)", "[x]", "{x}", "x,y", "x=y", "x#y", "x!y", "x^y", "!", "#", "=", "^"),
    *(
        "desktop.ini ",
        "autorun.inf ",
        ".DS_Store",
        "._x",
        "x.pth ",
        "*.whl",
        "?",
        "Thumbs.db.",
        "lost+found ",
        "nul .",
        "\u202dx",
        "\u2066x",
        "\x85x",
        "CLOCK$ ",
        "\u1e9e",
    ),
)
PATHS = ("/etc/passwd", "//x", "data//x", "data/../../x", "data/./x", "../x", "data/", "d/" * 13 + "x", "data/x" * 60)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> SimulatedMedium:
    return make_medium(tmp_path_factory.mktemp("names") / "m", volumes=1)


def test_a_hundred_names_are_refused_where_they_lie_on_a_medium(scene: SimulatedMedium) -> None:
    release = scene.volumes[0] / layout.RELEASE
    assert len(set(PARTS) | set(PATHS)) > 100
    tried = 0
    for name in PARTS:
        if name in {".", ".."}:
            continue
        for place in (release / "data" / name, release / "attest" / name):
            try:
                place.write_bytes(b"x")
            except OSError:  # this file system cannot hold it
                continue
            code, lines = copy_here(scene, None)
            place.unlink()
            tried += 1
            assert code in {12, 13}, (name, lines[-1])
            assert lines[-1]["error"]["what"].isascii()
            assert lines[-1]["error"]["what"].isprintable()
    assert tried > 160
    assert copy_here(scene, None)[0] == 0


def test_a_hundred_names_are_refused_in_a_list_that_two_people_sealed(scene: SimulatedMedium, tmp_path: Path) -> None:
    medium = scene.copy_to(tmp_path / "m")
    for listed, folder in ((layout.MANIFEST, "data/"), (layout.TAG_MANIFEST, "attest/")):
        genuine = medium.path(listed).read_bytes()
        for number, name in enumerate((*(folder + part for part in PARTS), *PATHS)):
            line = f"{'ab' * 32}  ".encode() + name.encode("utf-8", "surrogatepass") + b"\n"
            lines = sorted([*genuine.splitlines(keepends=True), line], key=lambda each: each[66:])
            with pytest.raises(MediaError):
                bagit.parse_manifest(b"".join(lines))
            if number % 8 == 0:
                medium.replace(listed, b"".join(lines))
                seal_as_it_lies(medium, listed)
                code, said = copy_here(medium, None)
                assert code in {10, 13}, (name, said[-1])
        medium.replace(listed, genuine)


def seal_as_it_lies(medium: SimulatedMedium, listed: str) -> None:
    """Have two people sign the tag manifest as it is, once it names the other list as that is."""
    if listed == layout.MANIFEST:
        tags = medium.path(layout.TAG_MANIFEST).read_bytes().splitlines(keepends=True)
        own = subprocess.run(["sha256sum", str(medium.path(listed))], check=True, capture_output=True).stdout[:64]
        kept = [own + line[64:] if line[66:] == b"manifest-sha256.txt\n" else line for line in tags]
        medium.replace(layout.TAG_MANIFEST, b"".join(kept))
    manifest = medium.path(layout.TAG_MANIFEST).read_bytes()
    for person in ("alice", "bob"):
        medium.signature(person).write_bytes(medium.sign_as(person, manifest))


BOMBS: dict[str, Callable[[], bytes]] = {
    "larger than it may be": lambda: b" " * (limits.JSON_BYTES + 1),
    "deep": lambda: b"[" * (limits.JSON_BYTES - 1),
    "deep and closed": lambda: b"[" * 10**6 + b"]" * 10**6,
    "many small objects": lambda: b"[" + b"{}," * (limits.JSON_BYTES // 4) + b"{}]",
    "many keys": lambda: b"{" + b",".join(b'"%d":0' % number for number in range(10**6)) + b"}",
    "one key very often": lambda: b"{" + b",".join([b'"a":0'] * (2 * 10**6)) + b"}",
    "a number without end": lambda: b"9" * (limits.JSON_BYTES - 1),
    "an exponent": lambda: b'{"a":1e999999999}',
    "a text without end": lambda: b'"' + b"\\u0061" * (limits.JSON_BYTES // 6 - 2) + b'"',
    "half a character": lambda: b'{"a":"\\ud800"}',
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("place", [layout.VOLUMES, layout.TIMESTAMP, "metadata/2.root.json"])
def test_json_made_to_be_slow_or_large_is_refused_in_seconds_and_little_memory(
    scene: SimulatedMedium, tmp_path: Path, place: str, name: str
) -> None:
    medium = scene.copy_to(tmp_path / "m")
    medium.add(place, BOMBS[name]())
    medium.reseal()
    job = Job(volumes=tuple(map(str, medium.volumes)), store="", terms=terms_for(medium), full=False, lock=None)
    limited = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30)); "
        f"sys.path.insert(0, {str(Path(copying.__file__).parents[2])!r}); "
        "runpy.run_module('appliance.store.copier', run_name='__main__')"
    )
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)

    done = subprocess.run(
        [sys.executable, "-I", "-c", limited], input=job.to_bytes(), capture_output=True, check=False, timeout=60
    )

    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode in {10, 16}, done.stderr[-300:]
    assert after.ru_utime - before.ru_utime < 10
    assert time.monotonic() - begun < 60


def test_nothing_but_a_root_is_parsed_before_the_signatures_over_the_list_of_files_hold(
    scene: SimulatedMedium, tmp_path: Path
) -> None:
    medium = scene.copy_to(tmp_path / "m")
    for name in (layout.TIMESTAMP, layout.VOLUMES, layout.targets_name(1), layout.snapshot_name(1), layout.BAG_INFO):
        medium.replace(name, b"junk that no parser takes")
    medium.flip_bit(layout.TAG_MANIFEST, offset=-9)
    terms = terms_for(medium)
    parsed: list[bytes] = []

    def spied(frame: object, event: str, _: object) -> None:
        code, values = getattr(frame, "f_code"), getattr(frame, "f_locals")  # noqa: B009 - a frame has no public type
        if event == "call" and code.co_name == "loads" and code.co_filename == canonical.__file__:
            parsed.append(bytes(values["untrusted"]))

    job = Job(volumes=tuple(map(str, medium.volumes)), store="", terms=terms, full=False, lock=None)
    sys.setprofile(spied)
    try:
        code = run(job, Lines(io.StringIO()))
    finally:
        sys.setprofile(None)

    assert code == 20
    assert set(parsed) <= {medium.root_json, medium.path("metadata/1.root.json").read_bytes()}


def test_a_trust_record_cut_at_any_sixteenth_byte_stops_receiving_and_is_left_for_people(tmp_path: Path) -> None:
    first = make_medium(tmp_path / "one", serial=1)
    site = make_site(tmp_path / "box", first.root_json)
    site.receive(first)
    places = site.config.at
    record = places.trust / trust.RECORD
    whole = record.read_bytes()

    for length in range(0, len(whole), 16):
        record.write_bytes(whole[:length])
        for may_begin in (True, False):
            with pytest.raises(NoTrustError):
                trust.load(places.trust, places.pinned_trust, may_begin=may_begin)
    with pytest.raises(NoTrustError):
        site.receive(make_medium(tmp_path / "two", serial=2))

    record.write_bytes(whole)
    assert site.receive(make_medium(tmp_path / "again", serial=2)).serial == 2


def test_the_record_of_a_stored_release_cut_anywhere_is_damage_and_never_another_release(tmp_path: Path) -> None:
    first = make_medium(tmp_path / "one", serial=1)
    site = make_site(tmp_path / "box", first.root_json)
    site.receive(first)
    record = next(path for path in (site.store.root / "releases").rglob("*.json"))
    whole = record.read_bytes()
    record.chmod(0o644)

    for length in range(0, len(whole), 16):
        record.write_bytes(whole[:length])
        try:
            found = ContentStore(site.store.root).releases()
        except SealiftError:
            continue
        assert found == ()


def test_a_rotation_and_then_a_lower_serial_leaves_the_newer_root_and_the_higher_serial(tmp_path: Path) -> None:
    first = make_medium(tmp_path / "one", serial=5)
    site = make_site(tmp_path / "box", first.root_json)
    site.receive(first)
    later = rotated(first.ceremony, without="carol")

    with pytest.raises(SealiftError) as caught:
        site.receive(make_medium(tmp_path / "old", serial=4, keys=later))

    assert caught.value.exit_code == 23
    assert (len(site.record.root_chain), site.record.serial) == (2, 5)
    with pytest.raises(SealiftError):
        site.receive(make_medium(tmp_path / "older", serial=3))
    assert site.receive(make_medium(tmp_path / "new", serial=6, keys=later)).serial == 6


CALLS = [
    *(("pwrite64", "ENOSPC", when) for when in (1, 2, 4)),
    *(("pwrite64", "EIO", when) for when in (1, 3)),
    *(("fdatasync", "EIO", when) for when in (1, 2)),
    *(("fsync", "EIO", when) for when in (1, 2, 5, 9)),
    *(("rename", "EIO", when) for when in (1, 2)),
    *(("mkdir", "ENOSPC", when) for when in (1, 3)),
]


@pytest.mark.parametrize(("call", "error", "when"), CALLS)
def test_a_disk_that_fails_at_one_call_is_named_and_nothing_is_believed(
    scene: SimulatedMedium, tmp_path: Path, call: str, error: str, when: int
) -> None:
    store = ContentStore(tmp_path / "store")
    job = Job(
        volumes=tuple(map(str, scene.volumes)), store=str(store.root), terms=terms_for(scene), full=False, lock=None
    )
    # strace counts the calls of each thread, and there is one more for each core: with many, none makes four.
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))
    inject = [
        *("taskset", "--cpu-list", cores),
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:error={error}:when={when}",
    ]

    done = subprocess.run([*inject, *copying._command()], input=job.to_bytes(), capture_output=True, check=False)

    if b"ptrace" in done.stderr:
        pytest.skip("tracing is not allowed here")
    assert done.returncode in {30, 34}, done.stderr[-400:]
    last = canonical.loads(done.stdout.splitlines()[-1])
    assert last["event"] == "refused"
    assert last["error"]["fix"]
    assert store.releases() == ()
    assert finish(start(replace(scene), store.root))[0] == 0
