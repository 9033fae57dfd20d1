"""Which proxy a download takes: HTTPS_PROXY, HTTP_PROXY and NO_PROXY, as curl and pip read them.

A proxy sees host names and lengths of what is fetched over TLS, nothing else; what arrives is believed by digest. Its
password goes into one header and nowhere else.
"""

from collections.abc import Mapping
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed lacks it

import urllib3

from bundler.errors import SourceError


def proxy_for(url: str, environment: Mapping[str, str]) -> str:
    """Return the URL of the proxy for a URL, with user and password if it has them; empty for none.

    Raises:
        SourceError: The environment names something that is no proxy.
    """
    parts = urlsplit(url)
    exempt = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if exempt and proxy_bypass_environment(parts.netloc.rpartition("@")[2], {"no": exempt}):
        return ""
    # Small letters win, as everywhere.
    names = (f"{parts.scheme}_proxy", f"{parts.scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")
    given = next((environment[name] for name in names if environment.get(name)), "")
    if not given:
        return ""
    try:
        proxy = urlsplit(given if "://" in given else f"http://{given}")
        _ = proxy.port
    except ValueError:
        proxy = urlsplit("")
    if proxy.scheme not in {"http", "https"} or not proxy.hostname:
        name = next(each for each in names if environment.get(each))
        raise SourceError(what=f"{name} names no HTTP proxy", why="", fix="give http://HOST:PORT, or unset it")
    return proxy.geturl()


def pool_of(proxy: str) -> urllib3.PoolManager:
    """Return a pool of connections through a proxy."""
    parts = urlsplit(proxy)
    headers = {}
    if parts.username is not None:
        words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=words)
    place = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return urllib3.ProxyManager(place, retries=False, proxy_headers=dict(headers))
