"""Making models: one model folder from candles, and many of them side by side, here or on other machines."""
