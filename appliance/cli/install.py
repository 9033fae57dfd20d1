"""`sealift install`: environments of a stored release, and on a box the host."""

from typing import Annotated

import typer

from appliance.actions.install import Installer, InstallFacts, open_host
from appliance.cli import context as shared


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("install")
    def install(
        context: typer.Context,
        serial: Annotated[int | None, typer.Argument(help="Default: the newest stored release.")] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    ) -> None:
        """Install a stored release. Repeating it changes nothing; a failure leaves what runs running."""
        own = shared.of(context)
        installer = Installer(
            config=own.config,
            config_file=own.config_path,
            clock=own.clock,
            progress=own.say,
            host=open_host(own.config, clock=own.clock),
        )
        facts = installer.preview(serial) if dry_run else installer.install(serial)
        own.result(facts.to_json(), _text(facts, is_preview=dry_run))


def _text(facts: InstallFacts, *, is_preview: bool) -> str:
    if is_preview:
        verdict = "would change this appliance" if facts.changed else "would change nothing"
        said = f"release {facts.release} (serial {facts.serial}) {verdict}; host: {facts.host}"
        return "\n".join([facts.difference, said, *_kept(facts)]).strip()
    if not facts.changed:
        return f"release {facts.release} (serial {facts.serial}) is installed already: nothing was changed"
    lines = [f"installed release {facts.release} (serial {facts.serial})"]
    lines += [f"  before: serial {facts.previous}"] if facts.previous is not None else []
    lines += [f"  environment {name}: {digest[:12]}" for name, digest in sorted(facts.environments.items())]
    lines += [f"  keys made: {', '.join(facts.keys_made)}"] if facts.keys_made else []
    return "\n".join([*lines, *_kept(facts), f"  host: {facts.host}"])


def _kept(facts: InstallFacts) -> list[str]:
    if facts.base is None:
        return []
    return [f"  {facts.kind}: kept unchanged from release {facts.base}: {', '.join(facts.kept)}"]
