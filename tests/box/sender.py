"""The connected side for the box: `examples/box.toml`, built, rehearsed, signed and written to one volume."""

from dataclasses import dataclass
from pathlib import Path

from examples.demo.stage import Stage

SENDERS = ("ada:Ada Ferrer", "ben:Ben Okoye")
SEAL = "BX-0001"
RECIPE = Path(__file__).resolve().parents[2] / "examples/box.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A medium and the sheet that travels apart from it."""

    volume: Path
    sheet: str
    code: str


def make_release(stage: Stage, out: Path, *, recipe: Path, ceremony: Path, base: Path | None = None) -> Sealed:
    """Hold a ceremony if there was none, build, rehearse, sign in two rounds, write, hand over.

    Args:
        stage: What runs the commands.
        out: Where work folder and medium are made.
        recipe: The recipe.
        ceremony: Of the ceremony, held now where there was none.
        base: The recipe of the release that an update changes, which is built again for the rehearsal.
    """
    work, volume = out / "work", out / "media/volume-1"
    if not ceremony.exists():
        people = [word for person in SENDERS for word in ("--person", person)]
        stage.run("sealift-bundler", "ceremony", "hold", ceremony, "--environment", "demo", *people)
    stage.run("sealift-bundler", "build", recipe, "--work", work)
    below: list[str | Path] = []
    if base is not None:
        stage.run("sealift-bundler", "build", base, "--work", out / "base")
        below = ["--base", out / "base"]
    stage.run("sealift-bundler", "rehearse", work, *below)
    common: list[str | Path] = ["--ceremony", ceremony, "--person"]
    stage.run("sealift-bundler", "attest", work, *common, "ada", "--seal", f"1={SEAL}", "--place", "Bundling room")
    stage.run("sealift-bundler", "sign", work, *common, "ada", "--yes")
    stage.run("sealift-bundler", "sign", work, *common, "ben", "--yes")
    stage.run("sealift-bundler", "seal", work, *common, "ada")
    stage.run(
        "sealift-bundler", "write", work, volume, "--ceremony", ceremony,
        "--person", "ada", "--to", "Chris Courier", "--place", "Bundling room",
    )  # fmt: skip
    stage.run(
        "sealift-bundler", "custody", "hand-over", volume, "--ceremony", ceremony, "--person", "ben",
        "--from", "Chris Courier", "--to", "Goods-in, Demo Hospital", "--place", "Loading dock",
        "--seal", SEAL, "--condition", "seal unbroken", "--paper",
    )  # fmt: skip
    checked = stage.ask("sealift-bundler", "check", volume, "--ceremony", ceremony)
    return Sealed(volume=volume, sheet=next(work.rglob("sheet.txt")).read_text(), code=checked["code"])
