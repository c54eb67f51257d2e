"""Write src/crpbot/quality/report/sound.json: what a sound network says, for the grey histograms of every report.

A v7 network is trained on the bundled real BTC-USD candles (half a minute), into runs/causes where it is not there yet, and
judged on its test block. Kept are quantiles of its confidence and of its logits, all classes together.
"""

import json
from pathlib import Path

import numpy as np
from make_causes import trained

from crpbot.disk import write_whole
from crpbot.factory import diagnose, read_market
from crpbot.quality.report.curves import short

ROOT = Path(__file__).parents[1]
OUT = ROOT / "src" / "crpbot" / "quality" / "report" / "sound.json"
LEVELS = np.linspace(0, 1, 101)


def main() -> None:
    """Train, judge, write."""
    candles, source = read_market(None, "BTC-USD")
    judgement = diagnose(trained("v7", "BTC-USD"), candles, source=source)
    if any(cause.severity == "critical" and cause.code != "no-skill" for cause in judgement.causes):
        raise SystemExit(f"the network must be sound, found {[cause.code for cause in judgement.causes]}")
    prediction = judgement.diagnosis.judged.prediction
    rows = judgement.diagnosis.data.rows
    plain = {
        "about": f"a sound v7 network on {rows:,} real rows of BTC-USD that it had not seen.",
        "confidence": np.quantile(prediction.probabilities.max(axis=1), LEVELS).tolist(),
        "logits": np.quantile(prediction.logits, LEVELS).tolist(),
    }
    write_whole(OUT, json.dumps(short(plain), indent=1) + "\n")


if __name__ == "__main__":
    main()
