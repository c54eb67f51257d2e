"""What a model sees: columns computed from candles up to and including the closed one."""
