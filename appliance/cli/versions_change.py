"""`sealift models delete`, `hold`, `lift` and `collect`: taking versions away, and keeping them from it."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import collect as collecting
from appliance.actions import deletion
from appliance.actions.collect import CollectFacts
from appliance.actions.deletion import DeleteFacts
from appliance.cli import context as shared
from appliance.cli import passwords
from appliance.cli.context import Context
from appliance.cli.opened import is_operator, ledger_of, production_of
from appliance.registry import catalog
from appliance.state import projection

_Which = Annotated[str, typer.Argument(help="A digest, the beginning of one, a name, or NAME:VERSION.")]
_Person = Annotated[str, typer.Option("--as", help="Who decides, by id.")]
_Reason = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
_Password = Annotated[
    Path | None, typer.Option("--password-file", help="The person's password; asked of operators. - is stdin.")
]


def register(models: typer.Typer) -> None:
    """Add the commands."""
    models.command("delete")(_delete)
    models.command("hold")(_hold)
    models.command("lift")(_lift)
    models.command("collect")(_collect)


def _delete(
    context: typer.Context,
    which: _Which,
    person: _Person = "",
    reason: _Reason = "",
    password_file: _Password = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what needs it, and its bytes.")] = False,
) -> None:
    """Delete a version that nothing needs: not in production, previous, candidate, loaded, asked for or on hold."""
    own = shared.of(context)
    secret = None if dry_run else _secret(own, person, password_file)
    with production_of(own) as here:
        facts = deletion.delete(here, which, person=person, reason=reason, password=secret, dry_run=dry_run)
    own.result(facts.to_json(), _deleted(facts))


def _hold(
    context: typer.Context, which: _Which, person: _Person, reason: _Reason, password_file: _Password = None
) -> None:
    """Put a version on legal hold: it is not deleted until another person lifts the hold."""
    _decide(context, "hold", which, person, reason, password_file)


def _lift(
    context: typer.Context, which: _Which, person: _Person, reason: _Reason, password_file: _Password = None
) -> None:
    """Lift the hold on a version; another person than placed it."""
    _decide(context, "lift", which, person, reason, password_file)


def _collect(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only name the objects and their bytes.")] = False,
) -> None:
    """Remove bytes from the store that only deleted versions needed; never what is being received."""
    own = shared.of(context)
    with ledger_of(own) as ledger:
        facts = collecting.collect(own.config, ledger, dry_run=dry_run)
    own.result(facts.to_json(), _collected(facts))


def _decide(
    context: typer.Context, step: str, which: str, person: str, reason: str, password_file: Path | None
) -> None:
    own = shared.of(context)
    secret = _secret(own, person, password_file)
    with production_of(own) as here:
        projection.catch_up(here.state, here.ledger)
        with here.state.connect() as session:
            version = catalog.version(session, which)
        sequence = here.promoter.decide_model(step, version.model_digest, person=person, reason=reason, password=secret)
    said = "is on legal hold" if step == "hold" else "is on hold no more"
    own.result(
        {"model_digest": version.model_digest, "step": step, "sequence": sequence},
        f"{version.name} {version.version} {said}; ledger sequence {sequence}",
    )


def _secret(own: Context, person: str, password_file: Path | None) -> str | None:
    if password_file is None and not is_operator(own.config):
        return None
    return passwords.read(password_file, prompt=f"Password of {person}")


def _deleted(facts: DeleteFacts) -> str:
    name = f"{facts.version.name} {facts.version.version}"
    if facts.sequence is None:
        if facts.needs:
            return "\n".join((f"{name} would not be deleted:", *(f"  - {need}" for need in facts.needs)))
        return f"{name} would be deleted; its files have {facts.bytes} bytes"
    done = f"{name} was deleted; ledger sequence {facts.sequence}"
    if facts.collected is None:
        return f"{done}\nits bytes go with the next `sealift models collect` at the machine"
    return f"{done}\n{_collected(facts.collected)}"


def _collected(facts: CollectFacts) -> str:
    if not facts.found:
        return "nothing in the store is unneeded"
    lines = [f"{one.bytes:>15}  {one.sha256[:12]}  {one.path or '-'}  ({one.why})" for one in facts.found]
    end = f"{facts.bytes} bytes in {len(facts.found)} objects {'were removed' if facts.removed else 'would be removed'}"
    return "\n".join((*lines, end))
