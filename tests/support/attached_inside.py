"""An attached engine without its launcher: the application in this process, before a peer that the site file names."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask.testing import FlaskClient

from appliance import config as configuration
from appliance.config import Config
from appliance.registry.descriptor import ModelDescriptor
from appliance.serve import attached_process
from appliance.serve.instance import Instance
from appliance.serve.launcher import prove
from appliance.store.content import ContentStore
from tests.support.engine_process import engine_site


@contextmanager
def site_of_a_peer() -> Iterator[Config]:
    """Lend a site whose site file names a socket ``peer`` in its folder for sockets."""
    with engine_site() as made:
        text = made.at.config_file.read_text() + f'[engine]\nattached = "unix:{made.at.run / "peer"}"\n'
        yield configuration.parse(text.encode())


def proven(site: Config, descriptor: ModelDescriptor) -> attached_process.ProvenPeer:
    """Return a version of the site's store, every file of it hashed."""
    instance = Instance(stage="test", digest_prefix=descriptor.model_digest[:12])
    found = prove(ContentStore(site.at.store), instance, site)
    assert isinstance(found, attached_process.ProvenPeer)
    return found


def load(site: Config, descriptor: ModelDescriptor) -> attached_process.LoadedPeer:
    """Load a version, as the launcher's worker does."""
    return attached_process.load(proven(site, descriptor), stage="test", threads=1, config=site)


def chat(engine: FlaskClient, text: str = "abcd", **more: Any) -> tuple[int, dict[str, Any]]:
    """Ask; return the status and the answer."""
    said = {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 32, **more}
    answer = engine.post("/v1/chat/completions", json=said)
    return answer.status_code, answer.get_json()
