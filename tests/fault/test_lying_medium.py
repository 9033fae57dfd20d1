"""A medium that answers otherwise the second time, a few bytes at a time, with errors, or not at all any more.

R3 of the threats: what was hashed is what is kept, because nothing of a medium is asked for twice. Each medium here is
a program behind FUSE, so the kernel keeps nothing of what it gave; the copier is the very one that a receive starts.
"""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.store.content import ContentStore
from media import layout
from media.errors import SealiftError
from tests.support.copiers import finish, start
from tests.support.lying_medium import Lie, lying, unmount
from tests.support.medium import SimulatedMedium, make_medium, tiny_payload
from tests.support.receiving import make_site

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]

WEIGHTS = "release/data/models/tiny/tiny.gguf"
TIMESTAMP = f"release/{layout.TIMESTAMP}"
SEALED = f"release/{layout.TAG_MANIFEST}"
LENGTH = 3 * 2**20


@pytest.fixture
def medium(tmp_path: Path) -> SimulatedMedium:
    return make_medium(tmp_path / "m", volumes=1, files=tiny_payload(weights=random.Random(6).randbytes(LENGTH)))


def received(tmp_path: Path, medium: SimulatedMedium, *lies: Lie) -> tuple[int, ContentStore, dict[str, int]]:
    store = ContentStore(tmp_path / "store")
    with lying(medium.volumes[0], tmp_path / "lying", *lies) as opened:
        process = start(replace(medium, volumes=[tmp_path / "lying"]), store.root)
        try:
            code, _ = finish(process)
        finally:
            process.kill()
        return code, store, dict(opened())


def require_genuine(store: ContentStore, medium: SimulatedMedium) -> None:
    """What lies in the store under a name is what the sender signed under it."""
    for path in (each for each in store.objects.rglob("*") if each.is_file()):
        assert path.read_bytes() in medium.payload.values()


@pytest.mark.parametrize("path", [WEIGHTS, TIMESTAMP, SEALED, f"release/{layout.MANIFEST}"])
@pytest.mark.parametrize("how", ["good once", "evil again"])
def test_what_is_evil_the_second_time_is_never_asked_a_second_time(
    tmp_path: Path, medium: SimulatedMedium, path: str, how: str
) -> None:
    code, store, opened = received(tmp_path, medium, Lie(path=path, how=how))

    assert code == 0
    assert set(opened.values()) == {1}
    assert path in opened
    require_genuine(store, medium)


@pytest.mark.parametrize(("path", "codes"), [(WEIGHTS, {15}), (TIMESTAMP, {15}), (SEALED, {20}), ("custody", {26})])
def test_what_is_evil_the_first_time_is_refused_though_it_would_be_good_later(
    tmp_path: Path, medium: SimulatedMedium, path: str, codes: set[int]
) -> None:
    if path == "custody":
        path = next(each.relative_to(medium.volumes[0]).as_posix() for each in medium.volumes[0].glob("custody/*"))

    code, store, opened = received(tmp_path, medium, Lie(path=path, how="evil once"))

    assert code in codes
    assert opened[path] == 1
    assert store.releases() == ()


@pytest.mark.parametrize(
    ("lie", "codes"),
    [
        (Lie(path=WEIGHTS, how="short"), {0}),
        (Lie(path=TIMESTAMP, how="short"), {0}),
        (Lie(path=WEIGHTS, how="shrinks", at=LENGTH // 2), {15, 18}),
        (Lie(path=WEIGHTS, how="grows"), {0, 15}),
        (Lie(path=TIMESTAMP, how="grows"), {0, 15}),
        (Lie(path=TIMESTAMP, how="endless"), {16}),
        (Lie(path=WEIGHTS, how="endless"), {15}),
        (Lie(path=WEIGHTS, how="fails", at=LENGTH // 2), {18}),
        (Lie(path=TIMESTAMP, how="fails"), {18}),
        (Lie(path=SEALED, how="fails"), {18}),
        (Lie(path=WEIGHTS, how="dies", at=LENGTH // 2), {18}),
        (Lie(path=TIMESTAMP, how="dies"), {18}),
    ],
    ids=lambda each: f"{Path(each.path).name} {each.how}" if isinstance(each, Lie) else "",
)
def test_short_reads_errors_and_lies_about_length_are_survived_or_named(
    tmp_path: Path, medium: SimulatedMedium, lie: Lie, codes: set[int]
) -> None:
    code, store, _ = received(tmp_path, medium, lie)

    assert code in codes
    assert store.releases() == ()
    require_genuine(store, medium)
    assert finish(start(medium, store.root))[0] == 0
    require_genuine(store, medium)


def test_a_medium_that_is_pulled_out_in_the_middle_is_unreadable_and_received_when_it_is_back(
    tmp_path: Path, medium: SimulatedMedium
) -> None:
    store, place = ContentStore(tmp_path / "store"), tmp_path / "lying"
    slow = Lie(path=WEIGHTS, how="waits")
    with lying(medium.volumes[0], place, slow) as opened:
        process = start(replace(medium, volumes=[place]), store.root)
        while process.poll() is None and WEIGHTS not in opened():
            pass
        unmount(place)
        code, lines = finish(process)

    # A lazy unmount leaves open files readable: then the bytes are complete and proven like any others.
    assert code in {0, 18}, lines[-1]
    assert finish(start(medium, store.root))[0] == 0
    require_genuine(store, medium)


def test_a_whole_receive_of_a_lying_medium_keeps_what_was_hashed(tmp_path: Path, medium: SimulatedMedium) -> None:
    site = make_site(tmp_path / "box", medium.root_json)
    lies = [Lie(path=path, how="good once") for path in (WEIGHTS, TIMESTAMP, SEALED)]
    with lying(medium.volumes[0], tmp_path / "lying", *lies):
        site.receive([tmp_path / "lying"])
        before = site.untouched()
        with pytest.raises(SealiftError) as caught:
            site.receive([tmp_path / "lying"])  # all its lies are told by now

    assert caught.value.exit_code in {15, 20}
    assert site.untouched() == before
    release = site.store.releases()[0]
    for path, content in medium.payload.items():
        assert release.verify(path).read_bytes() == content
