"""Candles: where they come from, and what makes them valid."""
