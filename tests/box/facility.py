"""What a workstation of the facility does: asks with the official client over TLS, and opens the admin page.

Run in the facility's name space with one JSON object on standard input; prints one. Nothing here is ours but this file.
"""

import html
import json
import re
import socket
import ssl
import sys
import tempfile
import urllib.parse
import urllib.request
from typing import Any

import openai

QUESTION = "What is the capital of France? Answer in one sentence."
CHROMIUM = "/usr/bin/chromium"
_CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def ask(job: dict[str, Any]) -> dict[str, Any]:
    """Ask one question, and the same one streamed."""
    trusted = ssl.create_default_context(cafile=job["authority"])
    client = openai.OpenAI(
        base_url=f"https://{job['address']}/v1",
        api_key=job["key"],
        max_retries=0,
        http_client=openai.DefaultHttpxClient(verify=trusted, trust_env=False),
    )
    messages = [{"role": "user", "content": QUESTION}]
    common: dict[str, Any] = {"model": "production", "messages": messages, "temperature": 0, "max_tokens": 48}
    with client:
        raw = client.chat.completions.with_raw_response.create(**common)
        streamed = [
            event.choices[0].delta.content or ""
            for event in client.chat.completions.create(**common, stream=True)
            if event.choices
        ]
    answer = raw.parse()
    return {
        "request_id": raw.headers["x-request-id"],
        "model_digest": raw.headers["x-model-version"],
        "text": answer.choices[0].message.content,
        "streamed": "".join(streamed),
        "pieces": len(streamed),
    }


def look(job: dict[str, Any]) -> dict[str, Any]:
    """Open the admin page in a browser that trusts nothing but what TLS was checked for before."""
    from playwright.sync_api import sync_playwright

    trusted = ssl.create_default_context(cafile=job["authority"])
    with (
        socket.create_connection((job["address"], 8443), timeout=10) as plain,
        trusted.wrap_socket(plain, server_hostname=job["hostname"]) as secured,
    ):
        version = secured.version()
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as driver:
        browser = driver.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            headless=True,
            ignore_https_errors=True,
            args=[*_CHROMIUM_OPTIONS, f"--host-resolver-rules=MAP {job['hostname']} {job['address']}"],
        )
        page = browser.new_page()
        page.goto(f"https://{job['hostname']}:8443/")
        found = {
            "url": page.url,
            "title": page.title(),
            "fields": [one.get_attribute("name") for one in page.locator("input").all()],
            "tls": version,
        }
        page.screenshot(path=job["screenshot"])
        browser.close()
    return found


def banners(job: dict[str, Any]) -> dict[str, Any]:
    """Log in to the admin page as a person and return the texts of its banners."""
    trusted = ssl.create_default_context(cafile=job["authority"])
    trusted.check_hostname = False  # it is asked by its address; the name was checked by `look`
    page = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=trusted),
        urllib.request.HTTPCookieProcessor(),
    )
    base = f"https://{job['address']}:8443"
    csrf = re.findall(r'name="csrf" value="([^"]+)"', page.open(f"{base}/login", timeout=60).read().decode())
    fields = {"csrf": csrf[0], "person": job["person"], "password": job["password"]}
    shown = page.open(f"{base}/login", data=urllib.parse.urlencode(fields).encode(), timeout=60).read().decode()
    found = re.findall(r'<p class="banner[^"]*" role="[a-z]+">(.*?)</p>', shown, re.DOTALL)
    return {"logged_in": "Log out" in shown, "banners": [html.unescape(re.sub(r"<[^>]+>", "", one)) for one in found]}


def main() -> None:
    """Do what the job says."""
    job = json.load(sys.stdin)
    print(json.dumps({"ask": ask, "look": look, "banners": banners}[job["do"]](job)))


if __name__ == "__main__":
    main()
