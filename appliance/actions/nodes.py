"""Several nodes of one site that answer at once: who has the ledger open, who leads, whose keys are other ones."""

from collections.abc import Iterator
from contextlib import suppress

from appliance.actions.databases.checking import require_counters, require_held_back
from appliance.actions.findings import Finding
from appliance.audit import nodekeys, pin, storage
from appliance.audit.facts import Ledger
from appliance.audit.nodekeys import Compared
from appliance.audit.offline import OfflineLedger
from appliance.audit.postgres_sharing import Node, nodes_of
from appliance.config import Config
from appliance.errors import (
    DatabaseError,
    KeyMissingError,
    LedgerDamagedError,
    LedgerUnavailableError,
    NotPromotedError,
    ProofError,
)
from appliance.install.engines import environment_of
from appliance.keys import commitments
from appliance.keys.opening import open_keys
from appliance.promote.standing import loadable_digests
from appliance.registry import carriers
from appliance.store.content import ContentStore
from media.clock import SystemClock
from media.errors import SealiftError

_PAGE = "docs/operator/postgresql.md"


def said(config: Config) -> tuple[str, list[Node]]:
    """Return one line on the nodes, and them; nothing where a single node answers.

    Raises:
        LedgerUnavailableError: The database server is away.
    """
    own = config.database.node
    if config.at.server is None or not own:
        return "", []
    found = nodes_of(config.at)
    leading = next((one.name for one in found if one.leads), "nobody")
    return f"node {own}, of {', '.join(one.name for one in found) or 'none'}; {leading} leads", found


def keys(config: Config, ledger: Ledger) -> Compared | None:
    """Return how this node's keys stand beside those that the records name.

    Nothing is returned where a single node answers, where nothing was recorded yet, or who asks may not read the keys.

    Raises:
        LedgerUnavailableError: The ledger neither answers nor reads.
    """
    if config.at.server is None or not config.database.node:
        return None
    try:
        own = commitments.of(open_keys(config, environ={}))
    except KeyMissingError:  # that a key is missing is another finding
        return None
    return nodekeys.compare(ledger, ledger.head().origin, own)


def findings(config: Config) -> Iterator[Finding]:
    """Which nodes record, whether limits are counted together, and keys that differ; nothing for a single node."""
    try:
        text, found = said(config)
    except LedgerUnavailableError:  # that the server is away is another finding
        return
    if not text:
        return
    names = [one.name for one in found]
    yield Finding(
        name="nodes",
        is_good=config.database.node in names and any(one.leads for one in found),
        text=text,
        why="a node that has the ledger open answers; one of them decides for the site",
        fix=f"start sealift-ledger on this node; {_PAGE}: several nodes",
    )
    yield from _keys(config)
    yield from _pinned(config)
    yield from _versions(config)
    yield _limits(config)
    yield from _held_back(config)


def _limits(config: Config) -> Finding:
    text, fix = "requests and tokens of a key are counted by all nodes together", ""
    try:
        require_counters(config)
    except DatabaseError as error:
        text, fix = f"{error.what}: {error.why}", error.fix
    why = "what cannot be counted is not answered: callers get 503 here"
    return Finding(name="limits", is_good=not fix, text=text, why=why, fix=fix)


def _held_back(config: Config) -> Iterator[Finding]:
    try:
        require_held_back(config.at)
    except DatabaseError as error:
        yield Finding(
            name="held back",
            is_good=None,
            text=f"{error.what}: {error.why}",
            why="nodes of a release from before go on without it, so this one does, too",
            fix=error.fix,
        )


def _keys(config: Config) -> Iterator[Finding]:
    try:
        found = keys(config, OfflineLedger(config.at, clock=SystemClock()))
    except LedgerUnavailableError:  # as above
        return
    if found is None:
        return
    if config.places.root == "/" and commitments.written(config.at) is None:
        yield Finding(
            name="node keys at the start",
            is_good=None,
            text="the ledger compares two of the keys when it starts: it is told nothing of the others",
            why="the release before this one wrote no drop-in for it",
            fix="`sealift install SERIAL` once more writes it",
        )
    names = ", ".join((*found.differing, *found.absent))
    yield Finding(
        name="node keys",
        is_good=not found.text,
        text=found.text or "the same as those of the other nodes",
        why="with another key callers are refused here, or hashes of content cannot be compared",
        fix=f"copy {names} from /etc/sealift/keys there, and start what uses it again"
        if names
        else f"destroy it here, too: `sealift box-keys destroy`; {_PAGE}: several nodes",
    )


def _pinned(config: Config) -> Iterator[Finding]:
    """That the key which everything is proven by is not here, or is another ledger's; it is copied by people."""
    if storage.marked(config.at.ledger) is None:
        return  # this node never had the ledger open
    try:
        pinned, origin = pin.read_pin(config.at), OfflineLedger(config.at, clock=SystemClock()).head().origin
    except (LedgerUnavailableError, LedgerDamagedError, ProofError):  # other findings
        return
    if pinned is None or pinned.name != origin:
        yield Finding(
            name="node ledger.pub",
            is_good=False,
            text="absent" if pinned is None else f"is the key of {pinned.name}, and the ledger is {origin}",
            why="nothing is proven on this node: no answer, no record, no export",
            fix=f"copy /etc/sealift/{pin.FILE_NAME} from a node that answers, and compare both",
        )


def _versions(config: Config) -> Iterator[Finding]:
    """What is in production and cannot start on this node: the version, or its engine, is not here."""
    with suppress(NotPromotedError):  # another finding
        for digest in loadable_digests(config.at):
            try:
                _, descriptor, _ = carriers.carrier(ContentStore(config.at.store), digest)
                if config.at.current.exists():
                    environment_of(config.at, descriptor)
            except SealiftError as error:
                yield Finding(
                    name="node versions",
                    is_good=False,
                    text=f"version {digest[:12]} is in production and cannot start on this node: {error.what}",
                    why="callers who are sent here get 503 until it can",
                    fix="take in the release that brought it, and install it: `sealift receive`, `sealift install`",
                )
