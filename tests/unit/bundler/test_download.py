import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from bundler.cache import Cache
from bundler.download import Line, Wanted, download
from bundler.errors import SourceError
from tests.support.file_server import FileServer, file_server

CONTENT = random.Random(7).randbytes(300_000)
OTHER = random.Random(8).randbytes(300_000)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server({"/m.gguf": CONTENT}) as running:
        yield running


@pytest.fixture
def line() -> Iterator[Line]:
    pool = urllib3.PoolManager(retries=False)
    yield Line(pool=pool, pause=lambda _: None, timeout=urllib3.Timeout(connect=2, read=2))
    pool.clear()


def wanted(*urls: str, content: bytes = CONTENT, max_bytes: int = 2**20) -> Wanted:
    return Wanted(name="m.gguf", urls=urls, sha256=hashlib.sha256(content).hexdigest(), max_bytes=max_bytes)


def left(cache: Cache) -> list[str]:
    folder = cache.folder("partial")
    return sorted(file.suffix for file in folder.iterdir() if file.suffix != ".lock") if folder.is_dir() else []


def refused(what: Wanted, cache: Cache, line: Line) -> SourceError:
    with pytest.raises(SourceError) as caught:
        download(what, cache=cache, line=line)
    return caught.value


def test_a_file_is_fetched_once_and_then_comes_from_the_cache(tmp_path: Path, server: FileServer, line: Line) -> None:
    cache = Cache(root=tmp_path)

    first = download(wanted(f"{server.url}/m.gguf"), cache=cache, line=line)
    second = download(wanted(f"{server.url}/m.gguf"), cache=cache, line=line)

    assert first == second
    assert first.read_bytes() == CONTENT
    assert len(server.asked) == 1
    assert left(cache) == []


def test_a_cut_line_is_taken_up_where_it_broke(tmp_path: Path, server: FileServer, line: Line) -> None:
    server.cut_after = [100_000, 50_000]

    file = download(wanted(f"{server.url}/m.gguf"), cache=Cache(root=tmp_path), line=line)

    assert file.read_bytes() == CONTENT
    assert server.ranges() == ["", "bytes=100000-", "bytes=150000-"]


def test_a_later_build_goes_on_where_an_earlier_one_gave_up(tmp_path: Path, server: FileServer, line: Line) -> None:
    server.cut_after = [100_000]
    server.after = lambda number: server.statuses.extend([503] * 5) if number == 1 else None
    cache = Cache(root=tmp_path)
    refused(wanted(f"{server.url}/m.gguf"), cache, line)
    assert left(cache) == [".json", ".part"]

    assert download(wanted(f"{server.url}/m.gguf"), cache=cache, line=line).read_bytes() == CONTENT
    assert server.ranges()[-1] == "bytes=100000-"


def test_a_partial_file_without_a_recorded_identity_is_never_taken_up(
    tmp_path: Path, server: FileServer, line: Line
) -> None:
    server.cut_after = [100_000]
    server.after = lambda number: server.statuses.extend([503] * 5) if number == 1 else None
    cache = Cache(root=tmp_path)
    refused(wanted(f"{server.url}/m.gguf"), cache, line)
    next(cache.folder("partial").glob("*.json")).unlink()

    download(wanted(f"{server.url}/m.gguf"), cache=cache, line=line)

    assert server.ranges()[-1] == ""


@pytest.mark.parametrize("etag", ["", 'W/"weak"', "bare"])
def test_a_server_without_a_strong_etag_is_asked_from_the_start(
    tmp_path: Path, server: FileServer, line: Line, etag: str
) -> None:
    server.etag = lambda content: etag
    server.cut_after = [100_000]

    download(wanted(f"{server.url}/m.gguf"), cache=Cache(root=tmp_path), line=line)

    assert server.ranges() == ["", ""]


def test_a_file_that_changes_midway_is_started_over(tmp_path: Path, server: FileServer, line: Line) -> None:
    server.cut_after = [100_000]
    server.after = lambda number: server.files.update({"/m.gguf": OTHER})

    file = download(wanted(f"{server.url}/m.gguf", content=OTHER), cache=Cache(root=tmp_path), line=line)

    assert file.read_bytes() == OTHER


def test_a_file_that_changes_under_one_etag_is_fetched_anew(tmp_path: Path, server: FileServer, line: Line) -> None:
    server.etag = lambda content: '"same"'
    server.cut_after = [100_000]
    server.after = lambda number: server.files.update({"/m.gguf": OTHER})

    file = download(wanted(f"{server.url}/m.gguf", content=OTHER), cache=Cache(root=tmp_path), line=line)

    assert file.read_bytes() == OTHER
    assert server.ranges() == ["", "bytes=100000-", ""]


def test_a_server_that_ignores_ranges_sends_everything_again(tmp_path: Path, server: FileServer, line: Line) -> None:
    server.ignores_range = True
    server.cut_after = [100_000]

    file = download(wanted(f"{server.url}/m.gguf"), cache=Cache(root=tmp_path), line=line)

    assert file.read_bytes() == CONTENT
    assert server.ranges() == ["", "bytes=100000-"]


@pytest.mark.parametrize("span", ["bytes 0-299999/300000", "bytes 100000-299999/400000", "bytes 100000-*/*", "100000"])
def test_an_answer_to_a_range_that_is_another_range_is_not_joined(
    tmp_path: Path, server: FileServer, line: Line, span: str
) -> None:
    server.cut_after = [100_000]
    server.after = lambda number: server.headers.update({"content-range": span if number == 1 else ""})

    assert download(wanted(f"{server.url}/m.gguf"), cache=Cache(root=tmp_path), line=line).read_bytes() == CONTENT
    assert server.ranges() == ["", "bytes=100000-", ""]


@pytest.mark.parametrize("announced", [299_999, 300_001])
def test_a_server_that_lies_about_the_length_is_not_believed(
    tmp_path: Path, server: FileServer, line: Line, announced: int
) -> None:
    server.announced = announced
    cache = Cache(root=tmp_path)

    refused(wanted(f"{server.url}/m.gguf"), cache, line)

    assert cache.find(wanted().sha256) is None
    assert len(server.asked) < 15


def test_another_file_than_the_pinned_one_is_refused_and_leaves_nothing(
    tmp_path: Path, server: FileServer, line: Line
) -> None:
    cache = Cache(root=tmp_path)

    error = refused(wanted(f"{server.url}/m.gguf", content=OTHER), cache, line)

    assert "not the file that was pinned" in error.what
    assert left(cache) == []


@pytest.mark.parametrize("is_chunked", [False, True])
def test_more_bytes_than_the_cap_are_cut_off(
    tmp_path: Path, server: FileServer, line: Line, *, is_chunked: bool
) -> None:
    if is_chunked:
        server.headers = {"content-length": "", "connection": "close"}
        server.announced = 0
    cache = Cache(root=tmp_path)

    error = refused(wanted(f"{server.url}/m.gguf", max_bytes=200_000), cache, line)

    assert "max_bytes" in error.what
    assert ".part" not in left(cache)


def test_a_failing_server_is_asked_again_with_growing_pauses(tmp_path: Path, server: FileServer, line: Line) -> None:
    server.statuses = [503, 429, 500]
    pauses: list[float] = []

    download(wanted(f"{server.url}/m.gguf"), cache=Cache(root=tmp_path), line=Line(pool=line.pool, pause=pauses.append))

    assert pauses == [1.0, 2.0, 4.0]


def test_a_server_that_never_recovers_is_left_after_five_attempts(
    tmp_path: Path, server: FileServer, line: Line
) -> None:
    server.statuses = [503] * 50

    assert "status 503" in refused(wanted(f"{server.url}/m.gguf"), Cache(root=tmp_path), line).why
    assert len(server.asked) == 5


def test_the_next_url_is_tried_when_one_has_no_such_file(tmp_path: Path, server: FileServer, line: Line) -> None:
    urls = (f"{server.url}/gone.gguf", f"{server.url}/m.gguf")

    assert download(wanted(*urls), cache=Cache(root=tmp_path), line=line).read_bytes() == CONTENT


def test_a_server_that_is_not_there_is_named(tmp_path: Path, line: Line) -> None:
    error = refused(wanted("http://127.0.0.1:9/m.gguf"), Cache(root=tmp_path), line)

    assert error.why.startswith("http://127.0.0.1:9/m.gguf: ")


def test_a_redirect_is_followed_and_what_its_query_holds_is_kept_nowhere(
    tmp_path: Path, server: FileServer, line: Line
) -> None:
    server.redirects = {"/r/m.gguf": "/m.gguf?signature=geheim"}
    server.cut_after = [100_000]
    cache = Cache(root=tmp_path)
    server.after = lambda number: server.statuses.extend([503] * 5) if number == 2 else None

    error = refused(wanted(f"{server.url}/r/m.gguf"), cache, line)

    assert "geheim" not in f"{error.what} {error.why}"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"geheim" in path.read_bytes()]
    server.statuses.clear()
    server.after = lambda number: None
    assert download(wanted(f"{server.url}/r/m.gguf"), cache=cache, line=line).read_bytes() == CONTENT
    assert server.ranges()[-1] == "bytes=100000-"


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("/r/m.gguf", "redirects"),
        ("file:///etc/passwd", "no http or https URL"),
        ("http://u:pass1234@127.0.0.1/m.gguf", "credentials"),
        ("http://[::1", "no URL"),
        ("http://127.0.0.1:99999/m", "no URL"),
    ],
)
def test_redirects_that_lead_astray_are_refused(
    tmp_path: Path, server: FileServer, line: Line, to: str, why: str
) -> None:
    server.redirects = {"/r/m.gguf": to}

    error = refused(wanted(f"{server.url}/r/m.gguf"), Cache(root=tmp_path), line)

    assert why in error.why
    assert "pass1234" not in f"{error.what} {error.why}"


def test_an_encoded_answer_is_refused(tmp_path: Path, server: FileServer, line: Line) -> None:
    server.headers = {"content-encoding": "gzip"}

    assert "encoding" in refused(wanted(f"{server.url}/m.gguf"), Cache(root=tmp_path), line).why


def test_the_bytes_are_counted_while_they_come(tmp_path: Path, server: FileServer, line: Line) -> None:
    told: list[tuple[int, int, str]] = []
    shown = Line(
        pool=line.pool, pause=line.pause, progress=lambda done, total, label: told.append((done, total, label))
    )
    server.cut_after = [100_000]

    download(wanted(f"{server.url}/m.gguf"), cache=Cache(root=tmp_path), line=shown)

    assert told[-1] == (len(CONTENT), len(CONTENT), "m.gguf")
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


def test_two_builds_never_write_one_partial_file(tmp_path: Path, server: FileServer, line: Line) -> None:
    cache = Cache(root=tmp_path)
    told: list[str] = []
    server.statuses = [503]

    def meanwhile(_: float) -> None:
        told.append(refused(wanted(f"{server.url}/m.gguf"), cache, line).what)

    download(wanted(f"{server.url}/m.gguf"), cache=cache, line=Line(pool=line.pool, pause=meanwhile))

    assert told == ["another build is downloading the same file"]


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, server: FileServer, line: Line) -> None:
    (tmp_path / "partial").write_text("in the way")

    assert "could not be kept" in refused(wanted(f"{server.url}/m.gguf"), Cache(root=tmp_path), line).what
