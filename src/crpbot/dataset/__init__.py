"""From candles to rows: features, labels, and the blocks of a split."""
