"""The dashboard: everything that is known of models, signals and data, on pages that somebody leaves open."""
