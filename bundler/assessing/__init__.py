"""Whether to serve a model oneself, and what that takes: for the people who decide before anything is bought."""
