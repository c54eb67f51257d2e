"""The live runtime: closed candle in, at most one honest signal out."""
