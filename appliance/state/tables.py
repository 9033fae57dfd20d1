"""The tables of `state.db`. Times are RFC 3339 text as in the leaf that caused the row; sequences point to that leaf.

Nothing here is a fact of its own: every row follows from the ledger. Rows do not leave the areas that query them.
"""

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, CheckConstraint, Index, Integer, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


def _words(most: int) -> Any:
    """Return a text whose length only informs: SQLite enforces none, and what one backend takes the other must."""
    return String(most).with_variant(Text(), "postgresql")


class Base(DeclarativeBase):
    """Constraint names follow one pattern, so that migrations can name them. Sequences outgrow 32 bits."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar = {int: Integer().with_variant(BigInteger(), "postgresql")}


class Release(Base):
    """A release that was received; `installed_at` is null until it was installed."""

    __tablename__ = "release"

    serial: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(_words(200))
    code: Mapped[str] = mapped_column(_words(64))
    received_at: Mapped[str] = mapped_column(_words(20))
    installed_at: Mapped[str | None] = mapped_column(_words(20))


class ModelVersion(Base):
    """An immutable version of a model."""

    __tablename__ = "model_version"

    model_digest: Mapped[str] = mapped_column(_words(64), primary_key=True)
    name: Mapped[str] = mapped_column(_words(200), index=True)
    version: Mapped[str] = mapped_column(_words(100))
    weights_digest: Mapped[str] = mapped_column(_words(64))
    serial: Mapped[int]
    descriptor: Mapped[dict[str, Any]] = mapped_column(JSON)
    registered_sequence: Mapped[int]


class GateResult(Base):
    """One check of one version; the newest of a gate counts."""

    __tablename__ = "gate_result"
    __table_args__ = (Index("ix_gate_result_model_digest_gate", "model_digest", "gate"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    model_digest: Mapped[str] = mapped_column(_words(64))
    gate: Mapped[str] = mapped_column(_words(64))
    passed: Mapped[bool]
    evidence_digest: Mapped[str] = mapped_column(_words(64))
    figures: Mapped[dict[str, Any]] = mapped_column(JSON)
    sequence: Mapped[int] = mapped_column(unique=True)


class Promotion(Base):
    """A change of what production serves; a line's newest row is its present, `model_digest` null means stopped.

    `line` is null for line 1, and for a stop of all lines.
    """

    __tablename__ = "promotion"
    __table_args__ = (CheckConstraint("kind IN ('made', 'rolled-back', 'stopped')", name="kind"),)

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(_words(16))
    model_digest: Mapped[str | None] = mapped_column(_words(64))
    previous: Mapped[str | None] = mapped_column(_words(64))
    at: Mapped[str] = mapped_column(_words(20))
    people: Mapped[list[dict[str, str]]] = mapped_column(JSON)
    reason: Mapped[str | None] = mapped_column(_words(2000))
    line: Mapped[int | None]


class ApiKey(Base):
    """A caller's key, as a keyed hash; never the key. `stage` is test, or null for production."""

    __tablename__ = "api_key"

    key_id: Mapped[str] = mapped_column(_words(32), primary_key=True)
    secret_hmac: Mapped[str] = mapped_column(_words(64))
    key_version: Mapped[int]
    department: Mapped[str] = mapped_column(_words(200))
    phi_mode: Mapped[str] = mapped_column(_words(16))
    tier: Mapped[str] = mapped_column(_words(32))
    owner: Mapped[str] = mapped_column(_words(200))
    created_at: Mapped[str] = mapped_column(_words(20))
    revoked_at: Mapped[str | None] = mapped_column(_words(20))
    stage: Mapped[str | None] = mapped_column(_words(16))
    expires_at: Mapped[str | None] = mapped_column(_words(20))


class Rollout(Base):
    """A canary and what became of it; of those not ended each line of production has one at most.

    `line` is null for line 1. `state` is running, held, beside (cut over, the version before stays loaded) or ended.
    """

    __tablename__ = "rollout"
    __table_args__ = (CheckConstraint("state IN ('running', 'held', 'beside', 'ended')", name="state"),)

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    model_digest: Mapped[str] = mapped_column(_words(64))
    control: Mapped[str] = mapped_column(_words(64))
    percent: Mapped[int]
    hours: Mapped[int]
    state: Mapped[str] = mapped_column(_words(16))
    at: Mapped[str] = mapped_column(_words(20))
    ends_at: Mapped[str] = mapped_column(_words(20))
    line: Mapped[int | None]


class KeyRule(Base):
    """A key that the share of a canary does not decide on: pinned to a version, or kept out of canaries."""

    __tablename__ = "key_rule"

    key_id: Mapped[str] = mapped_column(_words(32), primary_key=True)
    rule: Mapped[str] = mapped_column(_words(16))
    model_digest: Mapped[str | None] = mapped_column(_words(64))
    sequence: Mapped[int]


class CallerStop(Base):
    """A key or a department that one person stopped."""

    __tablename__ = "caller_stop"

    what: Mapped[str] = mapped_column(_words(16), primary_key=True)
    name: Mapped[str] = mapped_column(_words(200), primary_key=True)
    sequence: Mapped[int]
    at: Mapped[str] = mapped_column(_words(20))


class StageLoad(Base):
    """A version that somebody had loaded in the test stage, for application developers; whether it runs is systemd's.

    `sequence` is the record that loaded it last: the newest answers where a caller names no version.
    """

    __tablename__ = "stage_load"

    model_digest: Mapped[str] = mapped_column(_words(64), primary_key=True)
    sequence: Mapped[int]
    at: Mapped[str] = mapped_column(_words(20))
    person: Mapped[str] = mapped_column(_words(200))


class Applied(Base):
    """One row: the sequence of the last leaf that these tables reflect, -1 before the first."""

    __tablename__ = "applied"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sequence: Mapped[int]
