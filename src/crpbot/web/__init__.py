"""The dashboard: what is there, in a browser."""
