"""What commands that read a ledger have in common where they may read the mirror of another box's instead."""

from typing import Annotated

import typer

Of = Annotated[
    str,
    typer.Option(
        "--of", metavar="BOX", help="Not this box's ledger: the mirror of another box's, by its name or its ledger's."
    ),
]
