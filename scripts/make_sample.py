"""Make the bundled sample from two years of candles: `python scripts/make_sample.py CANDLES_FOLDER`."""

import sys
from pathlib import Path

from crpbot.market.files import find_candles, read_candles
from crpbot.market.sample import SAMPLE, __file__, pack

YEAR_MS = 365 * 24 * 60 * 60_000

for symbol, file in find_candles(Path(sys.argv[1])).items():
    candles = read_candles(file)
    if symbol == "SOL-USD":
        *_, before_last, _last = candles.segments()
        part = candles[before_last.start :]
    else:
        part = candles[int((candles.time <= candles.time[-1] - YEAR_MS).sum()) :]
    target = Path(__file__).parent / f"{symbol}.parquet"
    frame = pack(part, SAMPLE[symbol])
    frame.write_parquet(target, compression="zstd", compression_level=22, statistics=False)
    print(symbol, len(part), f"{target.stat().st_size / 1e6:.2f} MB", part.sha256)
