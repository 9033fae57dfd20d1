"""Which line of production rests in a maintenance window, and which engines go on answering meanwhile.

Promises: with one line it is that one, and nothing is looked up for it but what people signed. What people signed for a
version says which line it comes into; where nobody asked them yet, the line that it stands in, else the one that has
its name, a stopped one too, else line 1: what a plan says before people are asked (`appliance.actions.fit`). An engine
that another line may load is never taken for one that rests.
"""

from contextlib import suppress

from appliance.audit.facts import Ledger
from appliance.errors import ConflictError
from appliance.install.jobs import Job, Kind
from appliance.promote.folder import PromoterFolder
from appliance.promote.history import Production
from appliance.promote.line import Line
from appliance.promote.linenames import holder_of
from appliance.promote.promoter import Request
from appliance.promote.statement import Statement
from appliance.registry.windows import Purpose
from media import canonical
from media.errors import SealiftError


def resting_line(folder: PromoterFolder, ledger: Ledger, model_digest: str, purpose: Purpose) -> Line:
    """Return the line that rests while a version is tested.

    Args:
        folder: The promoter's.
        ledger: Where the names of versions were recorded.
        model_digest: The version that is tested.
        purpose: What for; only what takes a version's place was signed.

    Raises:
        ConflictError: People signed that it comes beside all others, or for what its line serves no more.
        NotPromotedError: The chain of promotions is broken.
    """
    production = folder.production()
    asked = _asked(folder, model_digest) if purpose is Purpose.CUT_OVER else None
    if asked is not None:
        return _signed(production, asked)
    if not production.has_further:
        return production.first
    return holder_of(ledger, production, model_digest) or production.first


def is_spared(production: Production, line: int, digest12: str) -> bool:
    """Tell whether an engine goes on while a line rests: its version is one that another line may load."""
    others = (other for other in production.lines.values() if other.number != line)
    return any(one.startswith(digest12) for other in others for one in other.loadable)


def follows_another(production: Production, line: int, job: Job) -> bool:
    """Tell whether a job brings engines to what was decided about another line than this one.

    That a version stays warm is not among it: in a window memory is what is short.
    """
    others = [one for one in production.lines.values() if one.number != line]
    if job.kind is Kind.HALT:
        return any(one.last is production.last for one in others)
    return job.kind is Kind.SWITCH and any(one.current == job.digest for one in others)


def _asked(folder: PromoterFolder, model_digest: str) -> Statement | None:
    """Return the newest statement on file that people were asked to sign for a version."""
    found: list[Statement] = []
    for name in folder.request_names():
        with suppress(SealiftError):  # one that cannot be read can be promoted no more
            content = folder.read_request(name)
            request = None if content is None else Request.from_json(canonical.loads_canonical(content))
            if request is not None and request.statement.model_digest == model_digest:
                found.append(request.statement)
    return max(found, key=lambda one: one.requested_at, default=None)


def _signed(production: Production, asked: Statement) -> Line:
    line = production.signed_for(asked)
    if line is None or line.number not in production.lines:
        raise ConflictError(
            what="no window is opened for that version",
            why="it takes no version's place" if asked.replaces is None else "what it was to replace serves no more",
            fix=f"run `sealift promote {asked.model_digest[:12]}`",
        )
    return line
