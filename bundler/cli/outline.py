"""What `sealift-bundler --help` lists: each command with its line of help, and the module that has it.

A command's module is loaded when the command is asked for: help, completion and a name that was mistyped need none, and
waited a second for all of them. A test holds the lines against the modules. The appliance has the same in a file of its
own, because the two sides import nothing of each other.
"""

import importlib
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from bundler.cli.everywhere import give
from media.errors import UsageError

# In the order a release is made; then what stands beside it.
OUTLINE: Final = {
    "build": "Gather what the recipe pins, scan it, and write the candidates with their unsigned statements.",
    "scan": "Find what may not travel; ends with 63 where there is something. Changes nothing.",
    "rehearse": "Receive and install the candidate without a network, ask its models, and state what was seen.",
    "attest": "Sign the statements that you made. The first time, this also fixes the volumes and their seal numbers.",
    "sign": "Read every byte again, show what changed, and sign. The last signer also seals.",
    "seal": "Compare every byte with the signed lists and sign each volume's tag manifest.",
    "hand-in": "Write what you signed of a release, statements, metadata and seals, as one small file.",
    "take": "Verify what others handed in over the bytes here, and put it into this work folder.",
    "labels": "Write one label for each volume: ids, seals, hand-overs, a QR code; nothing of the trust sheet.",
    "write": "Write each volume whole or not at all, read it back from the device, and print the trust sheet.",
    "delta": "Carry only the blocks that a site has not, and prove here that the site can complete them.",
    "prove-delta": "Prove that a delta set applies at a site as it is now; name what is missing there otherwise.",
    "remake": "Write one volume again, byte by byte as it was sealed, read it back, and show that its signatures hold.",
    "reissue": "Lay down the same serial and the same bytes, to be signed again with a later date.",
    "check": "Check signatures, people, metadata, statements, lists, every byte, and custody.",
    "inspect": "Say what is in a release, what volumes say of themselves, or what a model file holds; nothing is"
    " loaded.",
    "diff": "Show files, packages, licences, scripts that run as root, tensors and settings that differ.",
    "key": "Make and look at private keys that are not OpenPGP's.",
    "ceremony": "Decide who may sign: hold a key ceremony, show its facts.",
    "root": "Make the first root or the next one: each person signs on their own machine.",
    "emergency": "Take stolen or lost keys away from every site, before the next medium.",
    "custody": "Who held a volume, when, where and under which seals.",
    "register": "What was written, sent and received, and which media never came back.",
    "probe": "What a machine says of itself before a release is made for it.",
    "assess": "Whether to serve a model yourselves, and what that takes.",
    "model-signing": "OpenSSF model signatures: for third parties; never an input to trust here.",
}
# The others are called as their module.
_MODULES: Final = {"hand-in": "handin", "take": "handin", "prove-delta": "delta"}


def module_of(name: str) -> str:
    """Return the module that has a command."""
    return f"bundler.cli.{_MODULES.get(name, name.replace('-', '_'))}"


class Outlined(TyperGroup):
    """The root command: names and lines of help stand for commands until one is asked for."""

    def __init__(self, **attributes: Any) -> None:
        """Put what stands for a command where none is."""
        super().__init__(**attributes)
        self._outlined = OUTLINE.keys() - self.commands
        for name, said in OUTLINE.items():
            self.commands.setdefault(name, TyperCommand(name, help=said))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Load the command that is asked for.

        Raises:
            UsageError: A library that it needs is not installed here.
        """
        if args and args[0] in self._outlined:
            loaded = _loaded(module_of(args[0]))
            give(self, loaded)
            self.commands.update(loaded.commands)
            self._outlined -= loaded.commands.keys()
        return super().resolve_command(ctx, args)


def _loaded(module: str) -> TyperGroup:
    app = typer.Typer()
    app.callback()(lambda: None)  # one command alone would be the whole line
    try:
        importlib.import_module(module).register(app)
    except ModuleNotFoundError as error:
        # A box has this script from the one wheel, and none of the libraries that only this side needs.
        raise UsageError(
            what="no release can be made in this environment",
            why=f"{error.name} is not installed here: a box receives, and has nothing to make releases with",
            fix="run it on the connected machine, in an environment with the extra `bundler` of sealift",
        ) from error
    return get_group(app)
