"""How the journal's tables came to be, step by step: see `live/migrate.py`."""
