"""Causes: a name for what the numbers show, with evidence, and a what-if that proves it."""
