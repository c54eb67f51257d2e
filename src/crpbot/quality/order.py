"""Inputs in the wrong order: which other orders are worth a try.

A scaler remembers the order. Its means and scales belong to the features that it was fitted on, so each of its places can be
matched with the feature whose statistics it holds: the assignment with the least total distance (Kuhn, "The Hungarian Method",
Naval Research Logistics Quarterly 2, 1955). Without a scaler only orders that people use are tried.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crpbot.model.weights import Weights

Floats = NDArray[np.float64]

FARTHEST = 100.0
"""A distance beyond this says no more than this."""
HOME = 0.01
"""A place that fits its own feature as well as another one's, to a tenth of a deviation, stays where it is."""
MISFITS = 0.05
"""Share of the places that may fit no feature when the rest do."""
OUT_OF_PLACE = 9.0
"""Distance from which on a feature does not fit its place: three deviations, or a scale 20 times off."""


@dataclass(frozen=True, eq=False)
class Order:
    """An order to try.

    Attributes:
        order: what stands at place i of the network belongs to input `order[i]`, shape `(n_features,)`.
        scaler_too: whether the scaler is out of order in the same way.
        words: what is done, for people.

    """

    order: NDArray[np.intp]
    scaler_too: bool
    words: str


def find_orders(weights: Weights, features: tuple[str, ...], x: Floats) -> tuple[Order, ...]:
    """Return the orders that there is reason to try on raw features `x`, shape `(n, len(features))`; often none."""
    found = []
    if weights.normalizer is not None and weights.normalizer.fitted:
        distance = statistical_distance(weights.normalizer.mean, weights.normalizer.scale, x)
        misfit = np.diag(distance)
        if (misfit > OUT_OF_PLACE).sum() >= 2:
            order = best_assignment(distance)
            left = int((distance[np.arange(len(order)), order] > OUT_OF_PLACE).sum())
            if left > len(order) * MISFITS:
                return ()  # no order fits: the scaler is another market's
            moved = [i for i in np.argsort(-misfit) if order[i] != i]
            words = ", ".join(f"{features[order[i]]} where {features[i]} was" for i in moved[:3])
            found.append(Order(order, scaler_too=True, words=f"inputs put in the order that the scaler remembers: {words} …"))
            return tuple(found)
    for name, names in _usual_orders(features):
        order = np.array([features.index(one) for one in names])
        if (order != np.arange(len(order))).any():
            found.append(Order(order, scaler_too=False, words=f"inputs put in {name} order"))
    return tuple(found)


def statistical_distance(mean: Floats, scale: Floats, x: Floats) -> Floats:
    """Return how far the statistics at each place of a scaler are from those of each feature, shape `(n_features, n_features)`.

    The squared difference of the means, in the larger deviation, plus the squared logarithm of the ratio of the scales; at most
    100.
    """
    means, scales = x.mean(axis=0), x.std(axis=0)
    scales = np.where(scales > 0, scales, 1.0)
    larger = np.maximum(scale[:, None], scales[None, :])
    distance = ((mean[:, None] - means[None, :]) / larger) ** 2 + np.log(scale[:, None] / scales[None, :]) ** 2
    return np.asarray(np.minimum(distance, FARTHEST))


def best_assignment(distance: Floats) -> NDArray[np.intp]:
    """Return the feature of each place with the least total distance; ties stay where they are.

    Places are assigned one after another, each along the shortest path on which earlier ones may have to move on: Jonker &
    Volgenant, Computing 38, 1987, without its initial steps.

    Args:
        distance: of each place from each feature, shape `(n, n)`, finite.

    """
    cost, n = distance - HOME * np.eye(len(distance)), len(distance)
    place_of, feature_of = np.full(n, -1), np.full(n, -1)
    of_place, of_feature = np.zeros(n), np.zeros(n)  # what each contributes to the least total: the dual solution
    for start in range(n):
        path, reached_from = np.full(n, np.inf), np.full(n, -1)
        places, features = np.zeros(n, bool), np.zeros(n, bool)
        place, shortest, free = start, 0.0, -1
        while free < 0:
            places[place] = True
            onward = shortest + cost[place] - of_place[place] - of_feature
            closer = ~features & (onward < path)
            path[closer], reached_from[closer] = onward[closer], place
            nearest = int(np.where(features, np.inf, path).argmin())
            shortest, features[nearest] = float(path[nearest]), True
            if place_of[nearest] < 0:
                free = nearest
            else:
                place = int(place_of[nearest])
        places[start] = False
        of_place[start] += shortest
        of_place[places] += shortest - path[feature_of[places]]
        of_feature[features] -= shortest - path[features]
        while True:  # back along the path: everybody on it moves one on
            place = int(reached_from[free])
            place_of[free] = place
            feature_of[place], free = free, int(feature_of[place])
            if place == start:
                break
    return np.asarray(feature_of, np.intp)


def _usual_orders(features: tuple[str, ...]) -> list[tuple[str, list[str]]]:
    """Return the orders that people's tools put names in: by the letters, by the numbers in them, and turned round."""

    def by_number(name: str) -> list[tuple[int, int, str]]:
        return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", name) if part]

    plain, natural = sorted(features), sorted(features, key=by_number)
    return [("alphabetical", plain), ("numerical", natural), ("reverse", list(features)[::-1])]
