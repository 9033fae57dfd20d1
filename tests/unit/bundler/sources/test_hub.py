import json
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from bundler import leaks
from bundler.cache import Cache
from bundler.download import Line, Wanted, download
from bundler.errors import RecipeError, SourceError
from bundler.recipe import Recipe
from bundler.recipe_sources import HubFiles
from bundler.sources import hub, modelfiles, weights
from tests.support.file_server import FileServer, file_server
from tests.support.payload import gguf, recipe_folder

REVISION = "0123456789abcdef0123456789abcdef01234567"
PATH = f"/acme/tiny/resolve/{REVISION}/q4/tiny.gguf"
TOKEN = "hf_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hJ6"


def text(folder: Path, content: bytes, *, more: str = "") -> str:
    whole = recipe_folder(folder).read_text()
    start = whole.index("source = ")
    source = (
        f'{{ kind = "huggingface", repo = "acme/tiny", revision = "{REVISION}", license_path = "LICENSE", '
        f'files = {{ "q4/tiny.gguf" = "{sha256(content).hexdigest()}" }}{more} }}'
    )
    return f"{whole[:start]}source = {source}{whole[whole.index(chr(10), start) :]}"


def recipe(folder: Path, *, content: bytes = b"", more: str = "") -> Recipe:
    return Recipe.parse(text(folder, content or gguf(), more=more).encode(), folder=folder)


def source(folder: Path) -> HubFiles:
    found = recipe(folder).models[0].source
    assert isinstance(found, HubFiles)
    return found


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FileServer]:
    """Imitate the one route of a hub that is used; only the real library makes it worth asking."""
    for name, value in {**hub._QUIET, "HF_HOME": str(tmp_path / "hf-home")}.items():
        monkeypatch.setenv(name, value)
    pytest.importorskip("huggingface_hub", reason="the extra bundler-hub is not installed")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", hub.TOKEN_FILE, "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    with file_server({PATH: gguf()}) as running:
        running.headers = {"x-repo-commit": REVISION}
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def refused(folder: Path, **changes: str) -> SourceError:
    made = recipe(folder, **changes)  # type: ignore[arg-type]
    with pytest.raises(SourceError) as caught:
        hub.obtain(made.models[0].source, cache=Cache(root=folder / "cache"), progress=lambda _: None)  # type: ignore[arg-type]
    return caught.value


def test_a_file_of_a_hub_is_fetched_once_by_revision_and_digest(tmp_path: Path, server: FileServer) -> None:
    cache = Cache(root=tmp_path / "cache")
    first = hub.obtain(source(tmp_path), cache=cache, progress=lambda _: None)
    asked = len(server.asked)

    assert hub.obtain(source(tmp_path), cache=cache, progress=lambda _: None) == first
    assert len(server.asked) == asked
    assert first["tiny.gguf"].read_bytes() == gguf()
    assert {request.path for request in server.asked} == {PATH}


def test_a_token_reaches_the_hub_and_nothing_that_is_kept(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    server.needs_token = TOKEN
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    made = recipe(tmp_path)
    told: list[str] = []

    def no_fetch(*_: object) -> None:
        raise AssertionError

    pinned = weights.obtain(
        made, made.models[0], cache=Cache(root=tmp_path / "cache"), fetch=no_fetch, progress=told.append
    )
    brought = modelfiles.gather(made, made.models[0], pinned, environment="e" * 64)

    assert {request.headers.get("authorization") for request in server.asked} == {f"Bearer {TOKEN}"}
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    kept += [artifact.read() for artifact in brought.artifacts]
    out, err = capfd.readouterr()
    assert [
        leak for data in [*kept, out.encode(), err.encode(), *map(str.encode, told)] for leak in leaks.secrets(data)
    ] == []
    assert list(leaks.secrets(TOKEN.encode())) != []  # the scan would have seen it
    provenance = next(item for item in brought.artifacts if item.target.endswith("provenance.json"))
    assert json.loads(provenance.read())["package"] == f"pkg:huggingface/acme/tiny@{REVISION}"


def test_a_gated_file_without_a_token_says_what_is_missing(tmp_path: Path, server: FileServer) -> None:
    server.needs_token = TOKEN

    error = refused(tmp_path)

    assert "HF_TOKEN" in error.fix
    assert "401" in error.why


def test_a_refused_token_is_in_no_message(tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.needs_token = "another"
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    error = refused(tmp_path)

    assert TOKEN not in f"{error!r} {error.what} {error.why} {error.fix}"
    assert error.__cause__ is None
    assert "terms" in error.fix


def test_another_revision_than_the_pinned_one_is_refused(tmp_path: Path, server: FileServer) -> None:
    server.headers = {"x-repo-commit": "f" * 40}

    assert "pinned revision" in refused(tmp_path).what


def test_another_file_than_the_pinned_one_is_refused_from_a_hub(tmp_path: Path, server: FileServer) -> None:
    server.files[PATH] = gguf(template="{{ evil }}")

    assert "not the file that was pinned" in refused(tmp_path).what


def test_a_file_above_the_cap_is_not_fetched(tmp_path: Path, server: FileServer) -> None:
    assert "max_bytes" in refused(tmp_path, more=", max_bytes = 10").what
    assert {request.method for request in server.asked} == {"HEAD"}


def test_a_cut_line_of_a_hub_is_taken_up(tmp_path: Path, server: FileServer) -> None:
    server.cut_after = [100]

    assert hub.obtain(source(tmp_path), cache=Cache(root=tmp_path / "cache"), progress=lambda _: None)


def test_a_file_that_a_build_could_not_finish_goes_on_in_the_next_where_it_is_the_same(
    tmp_path: Path, server: FileServer
) -> None:
    cache, line = Cache(root=tmp_path / "cache"), Line(pause=lambda _: None)
    server.files[PATH] = content = gguf() + bytes(5000)
    made = recipe(tmp_path, content=content).models[0].source
    assert isinstance(made, HubFiles)
    server.cut_after = [3000] + [0] * 20
    with pytest.raises(SourceError, match="could not be downloaded"):
        hub.obtain(made, cache=cache, progress=lambda _: None, line=line)
    server.cut_after.clear()
    server.asked.clear()

    found = hub.obtain(made, cache=cache, progress=lambda _: None, line=line)

    assert found["tiny.gguf"].read_bytes() == content
    assert server.ranges() == ["bytes=3000-"]


def test_a_token_stays_with_the_hub_when_it_sends_us_elsewhere(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with file_server({"/store/blob": gguf()}) as elsewhere:
        line = Line(pause=lambda _: None)
        wanted = Wanted(
            name="tiny.gguf",
            urls=(f"{server.url}{PATH}",),
            sha256=sha256(gguf()).hexdigest(),
            max_bytes=10**6,
            secrets={"authorization": f"Bearer {TOKEN}"},
        )
        server.redirects[PATH] = f"{elsewhere.url}/store/blob?signed=1"

        download(wanted, cache=Cache(root=tmp_path / "cache"), line=line)

    assert [request.headers.get("authorization") for request in server.asked] == [f"Bearer {TOKEN}"]
    assert ["authorization" in request.headers for request in elsewhere.asked] == [False]
    assert TOKEN not in repr(wanted)


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for name in hub._QUIET:
        monkeypatch.setenv(name, "1")

    assert "bundler-hub" in refused(tmp_path).fix


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        (REVISION, "main", "models.0.source.revision"),
        (REVISION, "v1.0", "models.0.source.revision"),
        ("acme/tiny", "../tiny", "models.0.source.repo"),
        ("acme/tiny", "https://host/acme", "models.0.source.repo"),
        ("q4/tiny.gguf", "../tiny.gguf", "models.0.source.files"),
        ("q4/tiny.gguf", "/tiny.gguf", "models.0.source.files"),
        ('{ "q4/tiny.gguf"', f'{{ "q5/tiny.gguf" = "{"1" * 64}", "q4/tiny.gguf"', "models.0.source"),
    ],
)
def test_a_source_that_pins_too_little_is_refused(tmp_path: Path, old: str, new: str, key: str) -> None:
    changed = text(tmp_path, gguf()).replace(old, new)

    with pytest.raises(RecipeError) as caught:
        Recipe.parse(changed.encode(), folder=tmp_path)

    assert caught.value.what.startswith(key)


def test_the_token_comes_from_a_file_a_credential_or_the_environment(tmp_path: Path) -> None:
    for name in ("named", hub.CREDENTIAL):
        (tmp_path / name).write_text(f"{name}-token\n")
        (tmp_path / name).chmod(0o600)
    environment = {
        "HUGGING_FACE_HUB_TOKEN": "old-name-token",
        "HF_TOKEN": "environment-token",
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        hub.TOKEN_FILE: str(tmp_path / "named"),
    }
    found = []
    while environment:
        found.append(hub.token(environment))
        environment.popitem()

    assert found == ["named-token", "hub-token-token", "environment-token", "old-name-token"]
    assert hub.token({}) == ""


@pytest.mark.parametrize(
    ("mode", "content"), [(0o644, "a-good-token"), (0o600, "two words here"), (0o600, "a\nb\nc\nd\ne")]
)
def test_a_token_file_that_others_read_or_that_holds_none_is_refused(tmp_path: Path, mode: int, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(mode)

    with pytest.raises(SourceError) as caught:
        hub.token({hub.TOKEN_FILE: str(file)})

    assert content not in f"{caught.value.what}{caught.value.why}"


def test_a_token_file_that_is_not_there_is_no_reason_to_go_on_without(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        hub.token({hub.TOKEN_FILE: str(tmp_path / "gone"), "HF_TOKEN": "environment-token"})


@pytest.mark.parametrize(
    ("given", "with_token", "is_taken"),
    [
        ("http://127.0.0.1:80", True, True),
        ("https://hub.invalid/", True, True),
        ("http://hub.invalid", False, True),
        ("http://hub.invalid", True, False),
        ("https://u:p@hub.invalid", False, False),
        ("ftp://hub.invalid", False, False),
        ("hub.invalid", False, False),
    ],
)
def test_a_token_is_never_sent_unencrypted(given: str, *, with_token: bool, is_taken: bool) -> None:
    if is_taken:
        assert hub.endpoint({"HF_ENDPOINT": given}, with_token=with_token) == given.rstrip("/")
    else:
        with pytest.raises(SourceError):
            hub.endpoint({"HF_ENDPOINT": given}, with_token=with_token)
