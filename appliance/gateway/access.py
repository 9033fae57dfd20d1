"""Every route carries a decision who may call it; a route without one answers nobody.

`public` routes say no more than whether the service lives, `keyed` ones need an API key, `local` ones are for this
machine over the gateway's own Unix socket and never through the proxy. The page has a socket of its own, on which it is
a caller that brings people's keys and no more.
"""

import socket
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, TypeVar

_ATTRIBUTE: Final = "sealift_access"
_PAGES: Final = "-admin.sock"
_View = TypeVar("_View", bound=Callable[..., Any])


class Access(StrEnum):
    """Who may call a route."""

    PUBLIC = "public"
    KEYED = "keyed"
    LOCAL = "local"


def public(view: _View) -> _View:
    """Let anyone call a view."""
    setattr(view, _ATTRIBUTE, Access.PUBLIC)
    return view


def keyed(view: _View) -> _View:
    """Let holders of a key call a view."""
    setattr(view, _ATTRIBUTE, Access.KEYED)
    return view


def local(view: _View) -> _View:
    """Let this machine call a view."""
    setattr(view, _ATTRIBUTE, Access.LOCAL)
    return view


def access_of(view: object) -> Access | None:
    """Return the decision for a view; None where nobody made one."""
    decision = getattr(view, _ATTRIBUTE, None)
    return decision if isinstance(decision, Access) else None


def is_local(environ: Mapping[str, Any]) -> bool:
    """Tell whether a request came over our Unix socket and not through the proxy, which marks what it forwards."""
    if "HTTP_X_FORWARDED_FOR" in environ:
        return False
    at = _unix_address(environ)
    return at is not None and not at.endswith(_PAGES)


def is_pages(environ: Mapping[str, Any]) -> bool:
    """Tell whether a request came over the page's socket, where nothing is the web server's word."""
    at = _unix_address(environ)
    return at is not None and at.endswith(_PAGES)


def _unix_address(environ: Mapping[str, Any]) -> str | None:
    """Return the address of the Unix socket that a request came over; None where it came another way."""
    connection = environ.get("gunicorn.socket")
    if isinstance(connection, socket.socket) and connection.family == socket.AF_UNIX:
        return str(connection.getsockname())
    return None
