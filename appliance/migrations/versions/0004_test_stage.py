"""Versions that are loaded in the test stage, for application developers."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
_WHOLE = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def _words(most: int) -> sa.types.TypeEngine[str]:
    return sa.String(most).with_variant(sa.Text(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "stage_load",
        sa.Column("model_digest", _words(64), nullable=False),
        sa.Column("sequence", _WHOLE, nullable=False),
        sa.Column("at", _words(20), nullable=False),
        sa.Column("person", _words(200), nullable=False),
        sa.PrimaryKeyConstraint("model_digest", name="pk_stage_load"),
    )


def downgrade() -> None:
    op.drop_table("stage_load")
