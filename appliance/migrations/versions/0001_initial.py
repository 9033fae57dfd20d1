"""The first schema: releases, model versions, gates, promotions, keys, and how far the ledger was applied."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "release",
        sa.Column("serial", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("received_at", sa.String(20), nullable=False),
        sa.Column("installed_at", sa.String(20), nullable=True),
        sa.PrimaryKeyConstraint("serial", name="pk_release"),
    )
    op.create_table(
        "model_version",
        sa.Column("model_digest", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("version", sa.String(100), nullable=False),
        sa.Column("weights_digest", sa.String(64), nullable=False),
        sa.Column("serial", sa.Integer(), nullable=False),
        sa.Column("descriptor", sa.JSON(), nullable=False),
        sa.Column("registered_sequence", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("model_digest", name="pk_model_version"),
    )
    op.create_index("ix_model_version_name", "model_version", ["name"])
    op.create_table(
        "gate_result",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model_digest", sa.String(64), nullable=False),
        sa.Column("gate", sa.String(64), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("evidence_digest", sa.String(64), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_gate_result"),
        sa.UniqueConstraint("sequence", name="uq_gate_result_sequence"),
    )
    op.create_index("ix_gate_result_model_digest_gate", "gate_result", ["model_digest", "gate"])
    op.create_table(
        "promotion",
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("model_digest", sa.String(64), nullable=True),
        sa.Column("previous", sa.String(64), nullable=True),
        sa.Column("at", sa.String(20), nullable=False),
        sa.Column("people", sa.JSON(), nullable=False),
        sa.Column("reason", sa.String(2000), nullable=True),
        sa.PrimaryKeyConstraint("sequence", name="pk_promotion"),
        sa.CheckConstraint("kind IN ('made', 'rolled-back', 'stopped')", name="kind"),
    )
    op.create_table(
        "api_key",
        sa.Column("key_id", sa.String(32), nullable=False),
        sa.Column("secret_hmac", sa.String(64), nullable=False),
        sa.Column("key_version", sa.Integer(), nullable=False),
        sa.Column("department", sa.String(200), nullable=False),
        sa.Column("phi_mode", sa.String(16), nullable=False),
        sa.Column("tier", sa.String(32), nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("created_at", sa.String(20), nullable=False),
        sa.Column("revoked_at", sa.String(20), nullable=True),
        sa.PrimaryKeyConstraint("key_id", name="pk_api_key"),
    )
    applied = op.create_table(
        "applied",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_applied"),
        sa.CheckConstraint("id = 1", name="one_row"),
    )
    op.bulk_insert(applied, [{"id": 1, "sequence": -1}])
