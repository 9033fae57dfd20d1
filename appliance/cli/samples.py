"""`sealift samples`: answers that policy kept for people who judge quality. Every look is recorded first."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from appliance.actions.retention.reviewdesk import OPERATOR_DOOR, RATINGS
from appliance.cli import context as shared
from appliance.cli.context import Context
from appliance.cli.opened import require_enrolled
from appliance.wire import Line

_Request = Annotated[str, typer.Argument(metavar="REQUEST", help="The request whose sample it is.")]
_Person = Annotated[str, typer.Option("--as", help="Who looks, for the record.")]
_Reason = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    samples = typer.Typer(help="Answers that policy kept, for people who judge quality.", no_args_is_help=True)
    app.add_typer(samples, name="samples")
    samples.command("status")(_status)
    samples.command("list")(_list)
    samples.command("draw")(_draw)
    samples.command("show")(_show)
    samples.command("rate")(_rate)


def _status(context: typer.Context) -> None:
    """Say what policy keeps and how many samples there are; nothing of their content."""
    own = shared.of(context)
    policy = own.config.review
    with _desk(own) as desk:
        found = desk.call("standing")
    by_department = [f"{name}: {_one_in(count)}" for name, count in sorted(policy.departments.items())]
    lines = [
        f"policy   {'; '.join([_one_in(policy.one_in), *by_department])}",
        f"samples  {found['count']} of {found['most']}, {found['rated']} rated, each for {found['days']} days",
    ]
    own.result({**found, "one_in": policy.one_in, "departments": dict(policy.departments)}, "\n".join(lines))


def _list(context: typer.Context) -> None:
    """List the samples without opening any."""
    own = shared.of(context)
    with _desk(own) as desk:
        found = desk.call("list")["samples"]
    lines = [f"{one['request_id']}  {one['made']}  until {one['expires']}  {one['rating'] or '-'}" for one in found]
    own.result({"samples": found}, "\n".join(lines) or "no sample is kept")


def _draw(
    context: typer.Context, person: _Person, reason: _Reason = "quality review", dry_run: _DryRun = False
) -> None:
    """Show one sample that nobody rated, by chance; who looked and why is recorded first."""
    own = shared.of(context)
    with _desk(own) as desk:
        if dry_run:
            found = desk.call("standing")
            waiting = found["count"] - found["rated"]
            own.result({"dry_run": True, "waiting": waiting}, f"would show one of {waiting}")
            return
        require_enrolled(own, person)
        _shown(own, desk.call("draw", person=person, reason=reason))


def _show(
    context: typer.Context, request_id: _Request, person: _Person, reason: _Reason, dry_run: _DryRun = False
) -> None:
    """Show a request's sample; who looked and why is recorded first."""
    own = shared.of(context)
    if dry_run:
        own.result({"dry_run": True, "request_id": request_id}, f"would show {request_id}")
        return
    require_enrolled(own, person)
    with _desk(own) as desk:
        _shown(own, desk.call("show", request_id=request_id, person=person, reason=reason))


def _rate(
    context: typer.Context,
    request_id: _Request,
    rating: Annotated[str, typer.Argument(help=f"One of {', '.join(RATINGS)}.")],
    person: _Person,
    dry_run: _DryRun = False,
) -> None:
    """Record what a sample is worth; by somebody who looked at it."""
    own = shared.of(context)
    if dry_run:
        own.result({"dry_run": True, "request_id": request_id, "rating": rating}, f"would rate {request_id}")
        return
    require_enrolled(own, person)
    with _desk(own) as desk:
        done = desk.call("rate", request_id=request_id, rating=rating, person=person)
    own.result(done, f"{done['request_id']} is {done['rating']}")


def _shown(own: Context, found: Mapping[str, Any]) -> None:
    content = found["content"]
    head = f"{found['request_id']}  {content['at']}  {content['department']}  {content['model_digest'][:12]}"
    parts = [f"[{one['role']}]\n{_printable(one['text'])}" for one in content["texts"]]
    own.result(dict(found), "\n\n".join([head, *parts]))


def _printable(text: str) -> str:
    # What a model or a caller wrote may steer a terminal.
    return "".join(each if each.isprintable() or each == "\n" else ascii(each)[1:-1] for each in text)


def _one_in(count: int) -> str:
    return f"one answer in {count}" if count else "none"


@contextmanager
def _desk(own: Context) -> Iterator[Line]:
    desk = Line(own.config.at.socket(OPERATOR_DOOR))
    try:
        yield desk
    finally:
        desk.close()
