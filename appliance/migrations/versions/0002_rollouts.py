"""Rollouts, rules of keys, stopped callers. They hold nothing before the first record of theirs."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
_WHOLE = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def _words(most: int) -> sa.types.TypeEngine[str]:
    return sa.String(most).with_variant(sa.Text(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "rollout",
        sa.Column("sequence", _WHOLE, autoincrement=False, nullable=False),
        sa.Column("model_digest", _words(64), nullable=False),
        sa.Column("control", _words(64), nullable=False),
        sa.Column("percent", _WHOLE, nullable=False),
        sa.Column("hours", _WHOLE, nullable=False),
        sa.Column("state", _words(16), nullable=False),
        sa.Column("at", _words(20), nullable=False),
        sa.Column("ends_at", _words(20), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_rollout"),
        sa.CheckConstraint("state IN ('running', 'held', 'beside', 'ended')", name="state"),
    )
    op.create_table(
        "key_rule",
        sa.Column("key_id", _words(32), nullable=False),
        sa.Column("rule", _words(16), nullable=False),
        sa.Column("model_digest", _words(64), nullable=True),
        sa.Column("sequence", _WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_key_rule"),
    )
    op.create_table(
        "caller_stop",
        sa.Column("what", _words(16), nullable=False),
        sa.Column("name", _words(200), nullable=False),
        sa.Column("sequence", _WHOLE, nullable=False),
        sa.Column("at", _words(20), nullable=False),
        sa.PrimaryKeyConstraint("what", "name", name="pk_caller_stop"),
    )


def downgrade() -> None:
    for table in ("caller_stop", "key_rule", "rollout"):
        op.drop_table(table)
