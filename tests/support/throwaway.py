"""Ceremonies of alice, bob and carol with throwaway keys, made once in a test run and ended with it."""

import atexit
import functools
import os
import shutil
from pathlib import Path

from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]  # no __all__

from appliance.throwaway import Throwaway
from bundler import ceremony as ceremonies
from bundler.ceremony import Invitation
from bundler.gpghome import short_home
from bundler.metadata import canonical
from bundler.signatory import Ceremony, Signatory
from media.gpgagent import stop_agents
from media.signers import generate_key, tuf_signer

PEOPLE = (
    Invitation(id="alice", name="Alice Archer"),
    Invitation(id="bob", name="Bob Baker"),
    Invitation(id="carol", name="Carol Cook", roles=("release", "custody")),
)


@functools.cache
def throwaway_ceremony(environment: str = "demo", name: str = "") -> Ceremony:
    """Return a ceremony of alice, bob and carol that lasts for the test run; another one for every name."""
    return ceremonies.hold(_key_folder(name) / "c", PEOPLE, environment=environment)


@functools.cache
def ceremony_with_two_keys_of(person_id: str = "alice") -> Ceremony:
    """Return a ceremony whose root names two release keys of one person: python-tuf would count them as two."""
    folder = _key_folder(f"two-{person_id}") / "c"
    held = ceremonies.hold(folder, PEOPLE, environment="demo")
    root = Metadata[Root].from_bytes(held.chain[0]).signed
    with short_home(held.home_of(person_id)) as home:
        second = tuf_signer(home, generate_key(home, "Second Key", "second@throwaway.invalid")).public_key
    for role in ("targets", "snapshot", "timestamp"):
        root.add_key(second, role)
    described = root.unrecognized_fields["x-sealift-people"]
    next(each for each in described if each["id"] == person_id)["keys"]["release"].append(second.keyid)
    order = [keyid for each in described if "release" in each["roles"] for keyid in each["keys"]["release"]]
    for role in ("targets", "snapshot", "timestamp"):
        root.roles[role].keyids = order
    shutil.rmtree(folder / "root")
    signatures = []
    for person in held.people.with_role("root"):
        with short_home(held.home_of(person.id)) as home:
            signatures += Signatory(person=person, home=home).sign("root", canonical(root))
    return ceremonies.publish(folder, root, signatures, before=())


def _key_folder(name: str) -> Path:
    # What a killed run of tests left under this name goes first; agents end by themselves without their folder.
    lent, owner = Throwaway(f"sl-keys-{name}-", place=Path("/tmp")), os.getpid()

    def end() -> None:
        if os.getpid() == owner:
            for home in lent.path.glob("c/people/*/gnupg"):
                stop_agents(home)
            lent.remove()

    atexit.register(end)
    return lent.path
