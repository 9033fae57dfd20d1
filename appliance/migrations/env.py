"""How alembic runs here: on the connection that `appliance.state.database` hands over, inside its transaction."""

from alembic import context

from appliance.state.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
context.run_migrations()
