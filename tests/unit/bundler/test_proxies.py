import hashlib
from pathlib import Path

import pytest

from bundler.cache import Cache
from bundler.download import Line, Wanted, download
from bundler.errors import SourceError
from bundler.proxies import proxy_for
from tests.support.file_server import file_server

PASSWORD = "s3cret%20word"


@pytest.mark.parametrize(
    ("environment", "url", "expected"),
    [
        ({}, "https://files.invalid/m", ""),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "https://files.invalid/m", "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://files.invalid/m", ""),
        ({"HTTPS_PROXY": "http://old:1", "https_proxy": "http://new:2"}, "https://files.invalid/m", "http://new:2"),
        ({"ALL_PROXY": "proxy:3128"}, "https://files.invalid/m", "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "*"}, "https://files.invalid/m", ""),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": ".invalid"}, "https://files.invalid/m", ""),
        ({"HTTPS_PROXY": "http://proxy:1", "no_proxy": "other"}, "https://files.invalid/m", "http://proxy:1"),
        ({"HTTPS_PROXY": "http://proxy:1", "no_proxy": "10.0.0.1,files.invalid"}, "https://files.invalid:8/m", ""),
    ],
)
def test_proxies_are_read_as_other_programs_read_them(environment: dict[str, str], url: str, expected: str) -> None:
    assert proxy_for(url, environment) == expected


@pytest.mark.parametrize("given", ["socks5://proxy:1", "http://", "http://proxy:port", "ftp://proxy"])
def test_what_is_no_http_proxy_is_refused_by_the_name_of_the_variable(given: str) -> None:
    with pytest.raises(SourceError, match="HTTPS_PROXY") as caught:
        proxy_for("https://files.invalid/m", {"HTTPS_PROXY": given})

    assert given not in f"{caught.value.what}{caught.value.why}"


def wanted(url: str) -> Wanted:
    return Wanted(name="m.gguf", urls=(url,), sha256=hashlib.sha256(b"weights").hexdigest(), max_bytes=100)


def test_a_download_goes_through_the_proxy_of_the_environment(tmp_path: Path) -> None:
    with file_server({"http://files.invalid/m.gguf": b"weights"}) as proxy:
        line = Line(environment={"HTTP_PROXY": proxy.url.replace("http://", f"http://ana:{PASSWORD}@")})

        got = download(wanted("http://files.invalid/m.gguf"), cache=Cache(root=tmp_path), line=line)

    assert got.read_bytes() == b"weights"
    assert proxy.asked[0].path == "http://files.invalid/m.gguf"
    assert proxy.asked[0].headers["proxy-authorization"].startswith("Basic ")


def test_a_proxy_that_refuses_is_told_without_its_password(tmp_path: Path) -> None:
    with file_server({}) as proxy:
        line = Line(
            environment={"HTTPS_PROXY": proxy.url.replace("http://", f"http://ana:{PASSWORD}@")}, pause=lambda _: None
        )
        with pytest.raises(SourceError, match="could not be downloaded") as caught:
            download(wanted("https://files.invalid/m.gguf"), cache=Cache(root=tmp_path), line=line)

    assert {(each.method, each.path) for each in proxy.asked} == {("CONNECT", "files.invalid:443")}
    told = f"{caught.value!r} {caught.value.what} {caught.value.why} {caught.value.fix} {line!r}"
    assert "s3cret" not in told
