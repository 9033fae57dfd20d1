"""The rehearsal on a whole system: what two people of a site type, word for word, from the sheet to an answer.

The sheet's commands copy and check the small part of the volume, the medium's own bootstrap builds the first
environment from its wheels and packages, and `sealift` receives, installs its units and asks each model in test.
"""

from collections.abc import Sequence
from typing import Any

from bundler.errors import RehearsalError
from bundler.process import Progress
from bundler.rehearsing.answers import ModelAnswer, answer_of
from bundler.rehearsing.nspawn import CleanSystem
from bundler.sheet import COPY_FOLDER, TrustSheet
from media.canonical import loads
from media.errors import MalformedError

_TYPISTS = ("Rehearsal One", "Rehearsal Two")


def answers_on(
    system: CleanSystem, sheet: TrustSheet, models: Sequence[str], *, progress: Progress
) -> tuple[ModelAnswer, ...]:
    """Install a release by its sheet on a system and return what its models showed.

    Args:
        system: Booted, without a network, with volume 1 where the sheet says.
        sheet: Of the throwaway release.
        models: Which to ask.
        progress: Told each step.

    Raises:
        RehearsalError: A step failed.
    """

    def step(words: Sequence[str], name: str, feed: str = "") -> str:
        progress(f"  {name}")
        return system.run(words, step=name, feed=feed)

    def sealift(*words: str, name: str) -> Any:
        printed = step(["sealift", "--json", *words], name)
        try:
            return loads(printed.encode(), allow_floats=True)
        except MalformedError as error:
            raise RehearsalError(
                what=f"rehearsal: {name} printed no result", why=error.why, fix="add --keep and run it by hand"
            ) from error

    variables = "\n".join(sheet.variables())
    step(["sh", "-ec", "\n".join([variables, *sheet.copy_commands()])], "copying as the trust sheet says")
    for number, (command, _) in enumerate(sheet.check_commands(), start=1):
        step(["sh", "-ec", f"cd {COPY_FOLDER}\n{command}"], f"checking the copy, command {number} of the sheet")
    typed = "".join(f"{name}\n{sheet.code}\n" for name in _TYPISTS)
    begin = f"{variables}\ncd {COPY_FOLDER}\n{sheet.bootstrap_command()}"
    step(["sh", "-ec", begin], "bootstrap, and receiving with a throwaway root", typed)
    sealift("install", name="installing: packages, accounts, units, environments")
    return tuple(
        answer_of(sealift("validate", name, "--only", "smoke", name=f"asking {name} through its unit"))
        for name in models
    )
