"""The first schema: releases, model versions, gates, promotions, keys, and how far the ledger was applied."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
_WHOLE = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def _words(most: int) -> sa.types.TypeEngine[str]:
    return sa.String(most).with_variant(sa.Text(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "release",
        sa.Column("serial", _WHOLE, autoincrement=False, nullable=False),
        sa.Column("name", _words(200), nullable=False),
        sa.Column("code", _words(64), nullable=False),
        sa.Column("received_at", _words(20), nullable=False),
        sa.Column("installed_at", _words(20), nullable=True),
        sa.PrimaryKeyConstraint("serial", name="pk_release"),
    )
    op.create_table(
        "model_version",
        sa.Column("model_digest", _words(64), nullable=False),
        sa.Column("name", _words(200), nullable=False),
        sa.Column("version", _words(100), nullable=False),
        sa.Column("weights_digest", _words(64), nullable=False),
        sa.Column("serial", _WHOLE, nullable=False),
        sa.Column("descriptor", sa.JSON(), nullable=False),
        sa.Column("registered_sequence", _WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("model_digest", name="pk_model_version"),
    )
    op.create_index("ix_model_version_name", "model_version", ["name"])
    op.create_table(
        "gate_result",
        sa.Column("id", _WHOLE, nullable=False),
        sa.Column("model_digest", _words(64), nullable=False),
        sa.Column("gate", _words(64), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("evidence_digest", _words(64), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.Column("sequence", _WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_gate_result"),
        sa.UniqueConstraint("sequence", name="uq_gate_result_sequence"),
    )
    op.create_index("ix_gate_result_model_digest_gate", "gate_result", ["model_digest", "gate"])
    op.create_table(
        "promotion",
        sa.Column("sequence", _WHOLE, autoincrement=False, nullable=False),
        sa.Column("kind", _words(16), nullable=False),
        sa.Column("model_digest", _words(64), nullable=True),
        sa.Column("previous", _words(64), nullable=True),
        sa.Column("at", _words(20), nullable=False),
        sa.Column("people", sa.JSON(), nullable=False),
        sa.Column("reason", _words(2000), nullable=True),
        sa.PrimaryKeyConstraint("sequence", name="pk_promotion"),
        sa.CheckConstraint("kind IN ('made', 'rolled-back', 'stopped')", name="kind"),
    )
    op.create_table(
        "api_key",
        sa.Column("key_id", _words(32), nullable=False),
        sa.Column("secret_hmac", _words(64), nullable=False),
        sa.Column("key_version", _WHOLE, nullable=False),
        sa.Column("department", _words(200), nullable=False),
        sa.Column("phi_mode", _words(16), nullable=False),
        sa.Column("tier", _words(32), nullable=False),
        sa.Column("owner", _words(200), nullable=False),
        sa.Column("created_at", _words(20), nullable=False),
        sa.Column("revoked_at", _words(20), nullable=True),
        sa.PrimaryKeyConstraint("key_id", name="pk_api_key"),
    )
    applied = op.create_table(
        "applied",
        sa.Column("id", _WHOLE, autoincrement=False, nullable=False),
        sa.Column("sequence", _WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_applied"),
        sa.CheckConstraint("id = 1", name="one_row"),
    )
    op.bulk_insert(applied, [{"id": 1, "sequence": -1}])


def downgrade() -> None:
    for table in ("applied", "api_key", "promotion", "gate_result", "model_version", "release"):
        op.drop_table(table)
