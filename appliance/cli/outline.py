"""What `sealift --help` lists: each command with its line of help, and the module that has it.

A command's module is loaded when the command is asked for. Most of a short command's time would else be the modules of
all others, and help, completion and a name that was mistyped need no module at all. A test holds the lines against the
modules.
"""

import importlib
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from appliance.cli.everywhere import give

OUTLINE: Final = {
    "inspect": "Say what volumes claim to be, before any trust. Nothing is verified and nothing is stored.",
    "receive": "Verify the release on these volumes and bring it into the store.",
    "evidence": "Print each check of a receive with its time and result, for people to sign.",
    "scrub": "Read every stored object from the disk and hash it against its name; compare the releases' own files.",
    "install": "Install a stored release. Repeating it changes nothing; a failure leaves what runs running.",
    "setup": "Ask about eight questions, show what will be done, do it, and print what people need to begin.",
    "run-units": "Run the units of systemd/ without root: for demo and rehearsal. A box runs them under systemd.",
    "status": "Show release, what is in production, units, nodes, ledger and egress.",
    "doctor": "Look at disks, memory, processor, GPU, clock, network, names, modes and services.",
    "logs": "Show what the units wrote: no prompt, answer or name is ever in it.",
    "gpus": "Show use, memory and power of each GPU, as the driver tells them now.",
    "capacity": "Measure the engine in production with a standard note, record the figures, and show them.",
    "readiness": "Look at everything that must hold before going live. Ends with 52 when something does not.",
    "validate": "Start the version in test, run its gates, keep the evidence, and stop it again."
    " Production is untouched.",
    "approve": "Show what would change in production, and sign it.",
    "promote": "Request a promotion, or finish one that two different people have approved. Repeat it until it serves.",
    "rollback": "Go back to a version that was in production before, or end the canary that runs.",
    "stop": "Take production, or what is named, out of service. Bringing a version back takes two people.",
    "history": "Show who did what, when and why, from the ledger, the oldest first.",
    "affected": "List what was touched: of whom, when, and each request by its id; never what was asked or answered.",
    "drill": "Bring the newest backup back into a throwaway folder and record how long it takes.",
    "retire": "Destroy this box's keys for ever, show that what they made is unreadable, and write the certificate.",
    "uninstall": "Take Sealift off this machine. Ledger, keys, people, receipts and backups stay, unless they are"
    " asked for.",
    "controls": "List controls with this box's evidence: green, red, or not here. Changes nothing; asks the ledger"
    " and the box.",
    "prove": "Prove where an answer came from. Needs no network and nothing running.",
    "run": "Ask one question and print the answer as it is written.",
    "chat": "Talk with the promoted model; an empty line or /bye ends it, /new begins anew.",
    "trust": "What this box believes.",
    "media": "Media that are plugged in: look, receive, take out.",
    "custody": "Who carried the media.",
    "export": "What may leave the facility: shown in full, recorded, signed.",
    "host": "Changes of the host, which take two people.",
    "clock": "This machine's clock: shown, confirmed, corrected by two people.",
    "network": "The network: what is let in and out, and its self-test.",
    "people": "The site's people: one-time codes, enrolment, roles, resets, revocation.",
    "models": "The model versions this site knows.",
    "stage": "Versions that application developers try in the test stage.",
    "evals": "Task sets of this site, which count in every validation.",
    "policy": "The gates' thresholds; a site's own take two people.",
    "answers": "Judge answers of a version, blinded, before it is approved.",
    "canary": "Let a share of the callers try a version first.",
    "route": "The site's rules for the model auto.",
    "review": "What one person did alone waits for another's look.",
    "emergency": "Emergency access: loud, for hours, looked at afterwards.",
    "alerts": "How alerts are told.",
    "siem": "The site's collector of records.",
    "keys": "API keys of departments.",
    "automation": "Keys for scripts; none can ever approve.",
    "box-keys": "The box's own keys: versions, renewal, destruction.",
    "retention": "What is kept how long, and how it goes.",
    "samples": "Answers that policy kept, for people who judge quality.",
    "census": "The site's own list of names that no engine may see.",
    "tls": "Certificates of this box and of its callers.",
    "audit": "The ledger: what happened, and its proof.",
    "state": "The database that follows from the ledger.",
    "db": "Where ledger and state lie: files, or a PostgreSQL server.",
    "backup": "Backups to a key that is not on this box.",
    "standby": "Two boxes of one site: pair them, keep the second current.",
    "report": "Reports of a quarter or a time; validation reports of a separate test appliance.",
    "window": "Maintenance windows: production rests, and comes back.",
}
# The others are called as their module.
_MODULES: Final = {"drill": "backup", "run": "ask", "models": "versions", "box-keys": "boxkeys"}


def module_of(name: str) -> str:
    """Return the module that has a command."""
    return f"appliance.cli.{_MODULES.get(name, name.replace('-', '_'))}"


class Outlined(TyperGroup):
    """The root command: names and lines of help stand for commands until one is asked for."""

    def __init__(self, **attributes: Any) -> None:
        """Put what stands for a command where none is."""
        super().__init__(**attributes)
        self._outlined = OUTLINE.keys() - self.commands
        for name, said in OUTLINE.items():
            self.commands.setdefault(name, TyperCommand(name, help=said))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Load the command that is asked for."""
        if args and args[0] in self._outlined:
            app = typer.Typer()
            importlib.import_module(module_of(args[0])).register(app)
            loaded = get_group(app)
            give(self, loaded)
            self.commands.update(loaded.commands)
            self._outlined -= loaded.commands.keys()
        return super().resolve_command(ctx, args)
