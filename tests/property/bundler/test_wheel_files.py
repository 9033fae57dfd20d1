import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from bundler import wheelfile
from bundler.errors import ScanError
from tests.support.payload import wheel

NAME = "alpha-1.0-py3-none-any.whl"

with tempfile.TemporaryDirectory() as _folder:
    FILES = {"alpha/__init__.py": b"VALUE = 1\n" * 20, "alpha/b.txt": b"b"}
    WHEELS = [
        wheel(Path(_folder), "alpha", files=FILES, is_compressed=is_compressed).read_bytes()
        for is_compressed in (False, True)
    ]


def judged(content: bytes) -> str:
    """Return what the reader says: the wheel's name, or the word for a refusal."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAME
        path.write_bytes(content)
        try:
            facts = wheelfile.read(path)
            list(wheelfile.members(path, limit=1000))
        except ScanError:
            return "refused"
        return facts.name


PLACES = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=3)


@given(st.sampled_from(WHEELS), PLACES, st.integers(0, 40))
@example(WHEELS[0], [], 0)
@example(WHEELS[1], [], 0)
def test_a_damaged_wheel_is_refused_with_our_error_or_unharmed(
    content: bytes, places: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(content)
    for at, value in places:
        damaged[at % len(damaged)] = value

    assert judged(bytes(damaged[: len(damaged) - cut])) in {"refused", "alpha"}


@given(st.binary(max_size=300))
def test_any_bytes_are_no_wheel(content: bytes) -> None:
    assert judged(content) == "refused"
    assert judged(b"PK\x03\x04" + content) == "refused"
