"""`sealift route`: which version the site's rules give a request for the model `auto`."""

from typing import Annotated

import typer

from appliance.actions.routes import explain
from appliance.cli import context as shared
from appliance.cli.opened import records_of
from appliance.registry.router import Query


def register(app: typer.Typer) -> None:
    """Add the commands."""
    route = typer.Typer(help="The site's rules for the model auto.", no_args_is_help=True)
    route.command("explain")(_explain)
    app.add_typer(route, name="route")


def _explain(
    context: typer.Context,
    department: Annotated[str, typer.Option("--department", help="The key's department.")] = "",
    data_class: Annotated[str, typer.Option("--class", help="PHI, PII, CONFIDENTIAL, SECRET or PUBLIC.")] = "UNKNOWN",
    task: Annotated[str, typer.Option("--task", help="What X-Sealift-Task says.")] = "",
    endpoint: Annotated[str, typer.Option("--endpoint", help="chat or completions.")] = "chat",
    characters: Annotated[int, typer.Option("--characters", min=0, help="Of what the conversation begins with.")] = 0,
) -> None:
    """Say rule by rule which version would answer such a request now. Nothing is asked or recorded."""
    own = shared.of(context)
    query = Query(
        department=department,
        data_class=data_class.strip().upper(),
        task=task,
        endpoint=endpoint,
        characters=characters,
    )
    with records_of(own) as (_, state):
        found = explain(own.config, state, query)
    lines = [f"  {one.rule}: {one.why or f'applies: {one.model}'}" for one in found.routed.considered]
    decided = f"rule {found.routed.rule}" if found.routed.rule else "no rule applies"
    answers = found.answers
    if answers is None:
        lines.append(f"{decided}: nothing answers while line 1 is stopped; callers get `no_model`")
    else:
        where = "" if found.line is None else f", in line {found.line}"
        lines.append(f"{decided}: {answers.name} {answers.version} ({answers.model_digest[:12]}) answers{where}")
    lines += [
        f"{one.name} {one.version} ({one.model_digest[:12]}) was decided and is held back until its engine answers;"
        f" a canary is gone on with by itself, else `sealift promote {one.model_digest[:12]}` carries it out"
        for one in found.waiting
    ]
    own.result(found.to_json(), "\n".join(lines))
