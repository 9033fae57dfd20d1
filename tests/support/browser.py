"""Debian's Chromium, driven over its own protocol: a page of ours as a person's browser shows and runs it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from flask import Flask
from werkzeug.serving import make_server

CHROMIUM = "/usr/bin/chromium"
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@contextmanager
def served(app: Flask, port: int, *, host: str = "127.0.0.1") -> Iterator[None]:
    """Serve an application on loopback, or at `unix://PATH`, for as long as the block lasts."""
    server = make_server(host, port, app, threaded=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """Lend a browser context with a profile of its own; what goes wrong on a page is noted by `faults_of` alone."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            str(profile), executable_path=CHROMIUM, headless=True, args=list(OPTIONS)
        )
        context.set_default_timeout(60_000)
        try:
            yield context
        finally:
            context.close()


def faults_of(tab: Any) -> list[str]:
    """Return where errors of a tab's scripts, and what the page's policy kept from running, are noted from now on."""
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
    return faults


def security_key(context: Any, page: Any, *, verifies: bool = True) -> tuple[Any, str]:
    """Plug a virtual authenticator into a page's tab; returns the session that speaks to it and its id."""
    session = context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "usb",
        "hasUserVerification": True,
        "isUserVerified": verifies,
        "automaticPresenceSimulation": True,
    }
    return session, str(session.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"])
