"""The pictures of one model, drawn from its `diagnosis.json`: what is not there is not drawn."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from crpbot.dataset.labels import CLASSES
from crpbot.quality.metrics import Z_95, percent
from crpbot.quality.report import plain as read
from crpbot.quality.report.page import captioned, figure
from crpbot.quality.report.svg import Bar, Chart, bar_list, heat_map, number

Plain = Mapping[str, Any]

_SOUND_BINS, _MOST_ABOVE = 120, 3.0
"""Bins of the sound network, and how many times as high as the model it is drawn in full."""
_MOST_DATES = 4
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_TINY = 1e-3
"""The smallest activation that is drawn; its axis goes by powers of ten."""


def pictures(plain: Plain) -> list[str]:
    """Return every picture that there is something for, those first that say most."""
    drawn = (
        _reliability(plain),
        _class_reliability(plain),
        _confidence(plain),
        _logits(plain),
        _confusion(plain),
        _accuracy_over_time(plain),
        _calibration_over_time(plain),
        _selective(plain),
        _layers(plain),
        _activations(plain),
        _drift(plain),
        _training(plain),
    )
    return [picture for picture in drawn if picture]


@cache
def sound() -> Plain:
    """Return what a sound network says: where it comes from, and quantiles of its confidence and its logits."""
    found: Plain = json.loads((files("crpbot.quality.report") / "sound.json").read_text(encoding="utf-8"))
    return found


def room(values: Iterable[float], *, above: float = 0.1, below: float = 0.1) -> tuple[float, float]:
    """Return a span of an axis that holds all finite values, with some room at its ends."""
    known = [value for value in values if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    size = high - low
    if size <= 1e-9 * max(abs(low), abs(high), 1e-30):
        size = abs(high) * 0.2 or 1.0
    return low - below * size, high + above * size


def _bins(plain: Plain, name: str) -> tuple[list[float], list[float], list[float]] | None:
    one = read.table(plain, "curves", "reliability", name)
    said, came, error = read.reals(one, "said"), read.reals(one, "came"), read.errors(one, "error")
    if len(said) < 2 or not len(said) == len(came) == len(error):
        return None
    return said, came, [Z_95 * one for one in error]


def _curve(chart: Chart, curve: tuple[list[float], list[float], list[float]], style: str, *, name: str = "") -> None:
    xs, ys, bars = curve
    lows, highs = ([y + sign * bar for y, bar in zip(ys, bars, strict=True)] for sign in (-1, 1))
    chart.band(xs, lows, highs, style)
    chart.line(xs, ys, style, name=name)
    chart.dots(xs, ys, [math.nan] * len(xs), style)


def _reliability(plain: Plain) -> str:
    curve = _bins(plain, "all")
    if curve is None:
        return ""
    xs, ys, bars = curve
    edges = [y + sign * bar for y, bar in zip(ys, bars, strict=True) if math.isfinite(bar) for sign in (-1, 1)]
    low, high = room([*xs, *ys, *edges], above=0.08, below=0.08)
    low, high = max(low, -0.02), min(high, 1.02)
    chart = Chart("Reliability", "confidence", "share that came true", (low, high), (low, high))
    chart.line([low, high], [low, high], "ideal")
    _curve(chart, curve, "up")
    ece, chance = read.share(plain, "metrics", "ece"), read.share(plain, "metrics", "ece_by_chance")
    return figure(
        chart,
        f"Honest confidence lies on the dashed line. {len(xs)} bins of equal size, 95 % band by blocks of time; "
        f"calibration error {percent(ece)}, of which chance would make {percent(chance)}.",
    )


def _class_reliability(plain: Plain) -> str:
    curves = {name: curve for name in CLASSES if (curve := _bins(plain, name)) is not None}
    if not curves:
        return ""
    low, high = room([value for xs, ys, _ in curves.values() for value in (*xs, *ys)], above=0.12)
    low, high = max(low, -0.02), min(high, 1.02)
    chart = Chart("Reliability by class", "probability of the class", "share that came", (low, high), (low, high))
    chart.line([low, high], [low, high], "ideal")
    for name, curve in curves.items():
        _curve(chart, curve, name.lower(), name=name)
    return figure(chart, "Each class against the two others, with its 95 % band. A class above the line is said too seldom.")


def _sound_steps(quantiles: Sequence[float], span: tuple[float, float], width: float) -> tuple[list[float], list[float]]:
    """Return edges and heights of the sound network, as high as it would stand in bins of the `width` of the model's."""
    levels = np.linspace(0, 1, len(quantiles))
    edges = np.linspace(*span, _SOUND_BINS + 1)
    heights = 100 * np.diff(np.interp(edges, quantiles, levels)) * width / (edges[1] - edges[0])
    return edges.tolist(), np.minimum(heights, 1e6).tolist()


def _confidence(plain: Plain) -> str:
    found = read.histogram(plain, "curves", "confidence")
    if found is None:
        return ""
    edges, shares = found
    heights = [100 * share for share in next(iter(shares.values()))]
    span = (edges[0], edges[-1])
    grey = _sound_steps(sound()["confidence"], span, edges[1] - edges[0])
    top = 1.35 * max(1.0, *heights, min(max(grey[1]), _MOST_ABOVE * max(heights)))
    chart = Chart("Confidence", "probability of the predicted class", "% of the rows", span, (0.0, top))
    chart.steps(*grey, "sound", name="a sound model")
    chart.steps(edges, heights, "up", name="this model")
    over_60, over_99 = (percent(read.share(plain, "metrics", f"confidence_over_{bound}")) for bound in (60, 99))
    return figure(
        chart, f"{over_60} of the rows reach 60 % for DOWN or UP, {over_99} pass 99 %. Grey: {read.text(sound(), 'about')}"
    )


def _logits(plain: Plain) -> str:
    found = read.histogram(plain, "curves", "logits")
    if found is None:
        return ""
    edges, shares = found
    quantiles = sound()["logits"]
    span = (min(edges[0], quantiles[0]), max(edges[-1], quantiles[-1]))
    top = 1.45 * max(1.0, *(100 * share for one in shares.values() for share in one))
    chart = Chart("Logits", "logit, as served", "% of the rows", span, (0.0, top))
    chart.steps(*_sound_steps(quantiles, span, edges[1] - edges[0]), "sound", name="a sound model")
    for name in CLASSES:
        if name in shares:
            chart.steps(edges, [100 * share for share in shares[name]], name.lower(), name=name)
    return figure(
        chart,
        f"From {spoken(edges[0])} to {spoken(edges[-1])}; a sound model stays within ±10. Grey: all three logits of the sound "
        "model.",
    )


def spoken(value: float) -> str:
    """Write a logit for people."""
    digits = 1 if abs(value) < 1e3 else 0
    return (f"{value:,.{digits}f}" if abs(value) < 1e9 else f"{value:.3g}").replace("-", "−")


def _confusion(plain: Plain) -> str:
    rows = read.at(plain, "curves", "confusion")
    counts = [read.reals(row) for row in rows[: len(CLASSES)]] if isinstance(rows, list | tuple) else []
    if len(counts) != len(CLASSES) or any(len(row) != len(CLASSES) or min(row) < 0 for row in counts):
        return ""
    cells = [[(one / (sum(row) or 1.0), f"{100 * one / (sum(row) or 1.0):.1f} %, {one:,.0f}") for one in row] for row in counts]
    picture = heat_map("Confusion", CLASSES, cells, ("what came ↓", "what it said →"))
    return captioned(picture, "Confusion", "Each line adds up to 100 % of the rows of that class; the diagonal was right.")


def _spans(plain: Plain, *wanted: str) -> tuple[list[Plain], list[tuple[float, str]]]:
    """Return the spans of time that hold every wanted number, and where their dates stand on the axis."""
    spans = [
        span for span in read.items(plain, "curves", "over_time") if all(read.share(span, name) is not None for name in wanted)
    ]
    if len(spans) < 2:
        return [], []
    step = max(1, math.ceil(len(spans) / _MOST_DATES))
    places = range(step // 2, math.ceil(0.9 * len(spans)), step)
    return spans, [(float(place), read.text(spans[place], "first")[:10]) for place in places]


def _numbers(spans: Sequence[Plain], name: str) -> list[float]:
    return [number for span in spans if (number := read.real(span, name)) is not None]


def _accuracy_over_time(plain: Plain) -> str:
    spans, dates = _spans(plain, "accuracy", "majority")
    if not spans:
        return ""
    xs, right, majority = list(map(float, range(len(spans)))), _numbers(spans, "accuracy"), _numbers(spans, "majority")
    bars = [math.nan if (error := read.share(span, "error")) is None else Z_95 * error for span in spans]
    ys, common, wide = ([100 * one for one in many] for many in (right, majority, bars))
    ends = [y + sign * bar for y, bar in zip(ys, wide, strict=True) for sign in (-1, 1)]
    chart = Chart("Accuracy over time", "from", "% right", (-0.5, xs[-1] + 0.5), room([*ys, *common, *ends], above=0.35), dates)
    _curve(chart, (xs, ys, wide), "up", name="the model")
    chart.line(xs, common, "neutral dashed", name="always the commonest class of that span")
    return figure(
        chart, f"{len(spans)} equal spans, 95 % band by blocks of time. Which class is the commonest, only hindsight knows."
    )


def _calibration_over_time(plain: Plain) -> str:
    spans, dates = _spans(plain, "ece", "ece_by_chance")
    if not spans:
        return ""
    xs = list(map(float, range(len(spans))))
    ece, chance = ([100 * one for one in _numbers(spans, name)] for name in ("ece", "ece_by_chance"))
    top = 1.35 * max(*ece, *chance, 1.0)
    chart = Chart("Calibration over time", "from", "calibration error, %", (-0.5, xs[-1] + 0.5), (0.0, top), dates)
    chart.line(xs, ece, "up", name="the model")
    chart.dots(xs, ece, [math.nan] * len(xs), "up")
    chart.line(xs, chance, "neutral dashed", name="what chance makes of so few rows")
    return figure(chart, "Five bins in each span; lower is better. A perfectly calibrated model would lie near the dashed line.")


def _selective(plain: Plain) -> str:
    """Draw coverage against accuracy: what remains when the model speaks only from a confidence on."""
    points = [
        (100 * coverage, 100 * right, Z_95 * 100 * error)
        for one in read.items(plain, "selective", "curve")
        if (coverage := read.share(one, "coverage")) is not None
        and (right := read.share(one, "accuracy", "value")) is not None
        and ((error := read.real(one, "accuracy", "error")) is not None or (error := math.nan))
    ]
    if not points:
        return ""
    xs, ys, bars = (list(part) for part in zip(*points, strict=True))
    ends = [y + sign * bar for y, bar in zip(ys, bars, strict=True) for sign in (-1, 1)]
    chart = Chart("Speaking only when confident", "% of the rows on which it speaks", "% right", (0.0, 100.0), room([*ys, *ends]))
    chart.dots(xs, ys, bars, "up")
    return figure(chart, f"One dot for each least confidence, 95 % bars. {read.text(plain, 'words', 'selective')}")


def _layer_table(plain: Plain, *wanted: str) -> list[Plain]:
    layers = read.items(plain, "curves", "layers")
    return [] if any(read.real(layer, name) is None for layer in layers for name in wanted) else layers[:20]


def _layers(plain: Plain) -> str:
    layers = _layer_table(plain, "dead", "saturated", "units")
    if not layers:
        return ""
    names = [(place, f"layer {place} ({read.real(layer, 'units'):,.0f})") for place, layer in enumerate(layers, 1)]
    chart = Chart("Units by layer", "layer (units)", "% of its units", (0.4, len(layers) + 0.6), (0.0, 118.0), names)
    for place, layer in enumerate(layers, 1):
        for start, what, style, name in (
            (place - 0.32, "dead", "down", "dead: the same on every row"),
            (place + 0.02, "saturated", "neutral", "saturated: on for every row"),
        ):
            height = 100 * (read.share(layer, what) or 0.0)
            chart.steps([start, start + 0.3], [height], style, name=name if place == 1 else "")
    return figure(chart, "A dead unit says nothing; a saturated one only passes a sum on. A sound network has few of them.")


def _activations(plain: Plain) -> str:
    layers = _layer_table(plain, "size", "largest")
    if not layers:
        return ""
    xs = list(map(float, range(1, len(layers) + 1)))
    sizes = {what: [math.log10(max(one, _TINY)) for one in _numbers(layers, what)] for what in ("size", "largest")}
    low, high = room([-1.0, 1.0, *sizes["size"], *sizes["largest"]], above=0.3)
    step = max(1, math.ceil((high - low) / 7))
    powers = [(float(power), _power(power)) for power in range(math.ceil(low), math.floor(high) + 1, step)]
    names = [(x, f"layer {x:.0f}") for x in xs]
    chart = Chart(
        "Activations by layer", "layer", "|activation|, powers of ten", (0.4, len(layers) + 0.6), (low, high), names, powers
    )
    for what, style, name in (("largest", "down", "largest"), ("size", "up", "mean")):
        chart.line(xs, sizes[what], style, name=name)
        chart.dots(xs, sizes[what], [math.nan] * len(xs), style)
    strayed = [
        f"layer {place}: {stretch:,.3g} times"
        for place, layer in enumerate(layers, 1)
        if (stretch := read.real(layer, "stretch")) is not None
    ]
    words = f" Spread against what batch normalization recorded: {', '.join(strayed)} (1 fits)." if strayed else ""
    return figure(chart, f"Before batch normalization. Around 1 is healthy; raw prices push layer 1 into the thousands.{words}")


def _power(power: int) -> str:
    return number(float(f"1e{power}")) if abs(power) <= 3 else f"10{str(power).translate(_RAISED)}"


def _drift(plain: Plain) -> str:
    moved = [(one, shift) for one in read.items(plain, "curves", "drift")[:20] if (shift := read.real(one, "shift")) is not None]
    if not moved:
        return ""
    farthest = max(1.0, *(abs(shift) for _, shift in moved))
    bars = [
        Bar(read.text(one, "name")[:24], shift / farthest, _drifted(one, shift), "down" if abs(shift) > 1 else "up")
        for one, shift in moved
    ]
    outside = all(read.share(one, "outside") is None for one, _ in moved)
    against = "training rows" if read.text(plain, "curves", "drift_against") == "training rows" else "scaler"
    how = (
        "Shift of the mean, in the scaler's deviations."
        if outside
        else "Shift of the mean in training deviations, share of rows outside the training range, population stability (above "
        "0.25 is a major shift)."
    )
    return captioned(bar_list("Feature drift", bars), "Feature drift", f"The {len(bars)} farthest, against the {against}. {how}")


def _drifted(one: Plain, shift: float) -> str:
    outside, psi = read.share(one, "outside"), read.real(one, "psi")
    words = f"{shift:+,.2f}" if abs(shift) < 1e4 else f"{shift:+.2g}"
    words = words.replace("-", "−")
    if outside is None:
        return words
    return f"{words} · {percent(outside)}" + ("" if psi is None else f" · {psi:.2f}")


def _training(plain: Plain) -> str:
    epochs = [
        one
        for one in read.items(plain, "curves", "training")
        if all(read.real(one, name) is not None for name in ("epoch", "member", "training_loss", "calibration_loss"))
    ]
    if not epochs:
        return ""
    members = [[one for one in epochs if read.real(one, "member") == who] for who in sorted(set(_numbers(epochs, "member")))]
    every = [loss for name in ("training_loss", "calibration_loss") for loss in _numbers(epochs, name)]
    span = room(_numbers(epochs, "epoch"), above=0.0, below=0.0)
    chart = Chart("Training", "epoch", "loss of the recipe", (span[0] - 0.5, span[1] + 0.5), room(every, above=0.3))
    judging = "calibration block" if len(members) == 1 else "rows that stop it"
    for place, one in enumerate(members):
        xs = _numbers(one, "epoch")
        for values, style, name in (
            (_numbers(one, "training_loss"), "down", "training rows"),
            (_numbers(one, "calibration_loss"), "up", judging),
        ):
            chart.line(xs, values, style, name="" if place else name)
            chart.dots(xs, values, [math.nan] * len(xs), style)
    best = ", ".join(f"{max(_numbers([e for e in one if e.get('best') is True], 'epoch'), default=0):.0f}" for one in members)
    if len(members) == 1:
        return figure(chart, f"Epoch {best} was kept: the best log loss on the calibration block, after the best temperature.")
    return figure(chart, f"Of the members the epochs {best} were kept: the best log loss on the rows that stop each.")
