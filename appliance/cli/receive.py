"""`sealift receive`: verify a release while it is copied into the store."""

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import receive as action
from appliance.actions.receive import Options, ReceiveFacts
from appliance.actions.site_custody import LookedAt
from appliance.cli import context as shared
from appliance.errors import PrivilegeError
from appliance.install.joboutcome import Outcome
from appliance.install.telling import Teller
from appliance.verify.freshness import CustodyAcceptance, Decisions, StaleAcceptance
from media.errors import SealiftError, UsageError

_SAID = {
    "received": "received",
    "reissued": "already stored; its signatures and its own files were put in place anew",
    "reverified": "already stored; every byte was read and proven again",
    "checked": "every byte was proven; nothing was stored",
}
_CODE = re.compile(r"[0-9a-f]{64}", re.ASCII)
_COUNTED = {
    "single": "one signature of each person counted",
    "hybrid": "one classic and one ML-DSA-87 signature of each person counted",
}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("receive")
    def receive(
        context: typer.Context,
        volumes: Annotated[list[Path], typer.Argument(metavar="VOLUME...", help="Folders of all mounted volumes.")],
        accept_stale: Annotated[
            str, typer.Option("--accept-stale", metavar="CODE", help="Take this stale release; needs --by twice.")
        ] = "",
        accept_custody: Annotated[
            str, typer.Option("--accept-custody", metavar="NAME", help="Take it in spite of its custody, as NAME.")
        ] = "",
        seal: Annotated[
            list[str] | None,
            typer.Option("--seal", metavar="N=SEAL", help="A seal found on volume N; `N=` where there is none."),
        ] = None,
        custody_head: Annotated[
            list[str] | None,
            typer.Option("--custody-head", metavar="N=HEAD", help="The 16 characters that N's last holder sent apart."),
        ] = None,
        by: Annotated[
            list[str] | None, typer.Option("--by", metavar="NAME", help="Who accepts a stale release; give it twice.")
        ] = None,
        reason: Annotated[str, typer.Option("--reason", help="Why; goes into the record.")] = "",
        trust_root: Annotated[
            Path | None, typer.Option("--trust-root", metavar="FILE", help="A throwaway root; rehearsals only.")
        ] = None,
        full: Annotated[
            bool, typer.Option("--full", help="Prove everything again, also what an interrupted receive stored.")
        ] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Verify every byte; store nothing.")] = False,
        here: Annotated[
            bool, typer.Option("--here", hidden=True, help="Carrying a job out: tell how it goes.")
        ] = False,
        evidence: Annotated[
            Path | None,
            typer.Option(
                "--evidence", metavar="FILE", help="Write the form to sign, .pdf or .html; also of a refusal."
            ),
        ] = None,
    ) -> None:
        """Verify the release on these volumes and bring it into the store.

        It begins where an interrupted receive stopped. A refusal changes nothing that was there before.
        """
        own = shared.of(context)
        require_rights(own.config.at.store)
        teller = Teller(own.config) if here else None
        options = Options(
            decisions=_decisions(accept_stale, accept_custody, by or [], reason),
            trust_root=trust_root,
            full=full,
            dry_run=dry_run,
            looked_at=LookedAt.parsed(seal or (), custody_head or ()),
            evidence=evidence,
        )
        with own.progress(in_bytes=True) as bar:
            task = bar.add_task("verifying", total=None)

            def show(done: int, total: int, path: str) -> None:
                bar.update(task, completed=done, total=total, description=path.rpartition("/")[2][:32])
                if teller is not None:
                    teller.progress("verifying", done, total)

            try:
                facts = action.receive(own.config, volumes, clock=own.clock, progress=show, options=options)
            except SealiftError as error:
                if teller is not None:
                    teller.outcome(Outcome.of_error(error))
                raise
            bar.update(task, description=facts.outcome)
        if teller is not None:
            teller.outcome(Outcome(ok=True, changed=facts.outcome == "received"))
        own.result(facts.to_json(), _text(facts))
        if not own.config.at.current.exists() and not dry_run:
            own.say("next: `sealift setup`")


def require_rights(store: Path) -> None:
    """Return when this user may write the store, or there is none yet.

    Raises:
        PrivilegeError: It may not.
    """
    if store.exists() and not os.access(store, os.W_OK):
        raise PrivilegeError(
            what="receiving writes the store",
            why="this user may not",
            fix="run it as root, with sudo; what is plugged in, operators receive by `sealift media receive NAME`",
        )


def _decisions(accept_stale: str, accept_custody: str, by: list[str], reason: str) -> Decisions:
    if (accept_stale or accept_custody) and not reason.strip():
        raise UsageError(what="an acceptance needs a reason", why="it goes into the record", fix="give --reason TEXT")
    if by and not accept_stale:
        raise UsageError(what="--by says who accepts a stale release", why="", fix="give --accept-stale CODE too")
    code = "".join(accept_stale.split()).lower()  # sheets print it in groups
    if accept_stale and not _CODE.fullmatch(code):
        raise UsageError(
            what="--accept-stale needs a release code",
            why="64 digits of 0-9 and a-f",
            fix="copy it from the trust sheet",
        )
    return Decisions(
        stale=StaleAcceptance(code=code, reason=reason, names=tuple(by)) if accept_stale else None,
        custody=CustodyAcceptance(name=accept_custody, reason=reason) if accept_custody else None,
    )


def _text(facts: ReceiveFacts) -> str:
    signers = ", ".join(signer["name"] for signer in facts.facts["signers"])
    moved = f"read {facts.moved['read_bytes']}, written {facts.moved['written_bytes']}"
    lines = [
        f"release {facts.release} (serial {facts.serial}): {_SAID[facts.outcome]}",
        f"  code {facts.code}",
        f"  signed by {signers}; {_COUNTED[facts.facts['signature_policy']]}",
        f"  {facts.facts['files']} files, {facts.facts['bytes']} bytes; {moved}",
    ]
    if findings := facts.facts["custody"]["findings"]:
        lines += [f"  custody: {finding}" for finding in findings]
    else:
        lines.append("  custody complete")
    if facts.receipt:
        lines.append(f"  receipt {facts.receipt}")
    if facts.sequence is not None:
        lines.append(f"  record {facts.sequence if facts.sequence >= 0 else 'waits for the ledger to start'}")
    return "\n".join(lines)
