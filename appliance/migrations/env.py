"""How alembic runs here: on the connection that `appliance.state` hands over, inside its transaction; or as a text."""

from alembic import context

from appliance.state.tables import Base

given = context.config.attributes
context.configure(
    connection=given.get("connection"),
    dialect_name=given.get("dialect"),
    literal_binds=context.is_offline_mode(),
    target_metadata=Base.metadata,
    render_as_batch=given.get("connection") is not None and given["connection"].dialect.name == "sqlite",
)
context.run_migrations()
