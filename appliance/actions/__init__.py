"""The only place where steps are joined and recorded; the command line and the admin page both call it."""
