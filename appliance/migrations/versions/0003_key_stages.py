"""The stage that a key is for, and when it ends by itself; keys from before are for production, without an end."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def _words(most: int) -> sa.types.TypeEngine[str]:
    return sa.String(most).with_variant(sa.Text(), "postgresql")


def upgrade() -> None:
    op.add_column("api_key", sa.Column("stage", _words(16), nullable=True))
    op.add_column("api_key", sa.Column("expires_at", _words(20), nullable=True))


def downgrade() -> None:
    op.drop_column("api_key", "expires_at")
    op.drop_column("api_key", "stage")
