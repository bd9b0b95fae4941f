"""L-BFGS within bounds, that can be stopped and gone on with exactly.

Sources: Nocedal and Wright, "Numerical Optimization", algorithm 7.4 (two loops); bounds by
projection: Bertsekas, "Projected Newton methods", SIAM J. Control and Optimization 1982.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Function = Callable[[np.ndarray], tuple[float, np.ndarray]]
State = dict[str, np.ndarray]
Watch = Callable[[int, float, np.ndarray, State], None]
"""Called with step, energy, picture and all that is needed to go on; may raise to stop."""

_ENOUGH = 1e-4
_CURVATURE = 1e-10
_FIRST_CHANGE = 0.02
_HALVINGS = 20
_STILL_STEPS = 51


class Result(NamedTuple):
    """Where an optimisation ended.

    Attributes:
        picture: Of the shape it started with.
        curve: Energy at the start and after each step.
        evaluations: How often the energy and its gradient were computed.
    """

    picture: np.ndarray
    curve: list[float]
    evaluations: int


class _Point(NamedTuple):
    x: np.ndarray
    value: float
    gradient: np.ndarray


def lbfgs(
    function: Function,
    start: np.ndarray,
    *,
    steps: int,
    bounds: tuple[float | np.ndarray, float | np.ndarray] = (0.0, 1.0),
    memory: int = 20,
    tolerance: float = 1e-4,
    patience: int = 20,
    still: float = 0.0,
    mask: np.ndarray | None = None,
    state: State | None = None,
    every: int = 20,
    watch: Watch | None = None,
) -> Result:
    """Minimise a function of a picture.

    Stops after `steps`, or when the energy fell by less than `tolerance` of itself during the last
    `patience` steps, or when no value changed by more than `still` in any of 51 steps (Sendik and
    Cohen-Or), or when no step lowers the energy any more.

    Args:
        function: Returns energy and gradient, of the shape of the picture.
        start: Any shape, float32; what is out of bounds is clipped.
        steps: Most steps, those of `state` included.
        bounds: Lowest and highest values.
        memory: Pairs of steps and changes of the gradient that are remembered.
        tolerance: Relative decrease that is worth going on for.
        patience: Steps over which the decrease is looked at.
        still: Change of a value that is not worth going on for; 0 for never.
        mask: 1 where the picture may change, 0 where not; broadcasts against the picture.
        state: What `watch` was given, to go on from there instead of from `start`.
        every: Steps from one call of `watch` to the next.
        watch: See `Watch`.
    """
    low, high = bounds

    def evaluate(x: np.ndarray) -> _Point:
        value, gradient = function(x)
        gradient = gradient if mask is None else gradient * mask
        return _Point(x, float(value), np.asarray(gradient, np.float32))

    if state is None:
        point = evaluate(np.clip(start, low, high).astype(np.float32))
        pairs, curve, evaluations, resting = [], [point.value], 1, 0
    else:
        point = _Point(state["x"], float(state["value"]), state["gradient"])
        pairs = list(zip(state["steps"], state["changes"], strict=True))
        curve = state["curve"].tolist()
        evaluations, resting = int(state["evaluations"]), int(state["resting"])
    for step in range(len(curve), steps + 1):
        direction = _direction(point, pairs, low, high)
        following, tries = _searched(evaluate, point, direction, low, high, not pairs)
        evaluations += tries
        if following is None and pairs:
            # What is remembered misleads: try once more straight down.
            pairs = []
            direction = _direction(point, pairs, low, high)
            following, tries = _searched(evaluate, point, direction, low, high, True)
            evaluations += tries
        if following is None:
            break
        moved, changed = following.x - point.x, following.gradient - point.gradient
        if np.vdot(moved, changed) > _CURVATURE * np.vdot(changed, changed):
            pairs = [*pairs, (moved, changed)][-memory:]
        point = following
        curve.append(point.value)
        resting = resting + 1 if np.abs(moved).max(initial=0) <= still else 0
        if watch is not None and step % every == 0:
            watch(step, point.value, point.x, _state(point, pairs, curve, evaluations, resting))
        if resting == _STILL_STEPS:
            break
        if step >= patience:
            earlier = curve[-1 - patience]
            if earlier - point.value < tolerance * abs(earlier):
                break
    return Result(point.x, curve, evaluations)


def _state(point: _Point, pairs: list, curve: list[float], evaluations: int, resting: int) -> State:
    moved, changed = zip(*pairs, strict=True) if pairs else ((), ())
    nothing = np.zeros((0, *point.x.shape), np.float32)
    return {
        "x": point.x,
        "value": np.float64(point.value),
        "gradient": point.gradient,
        "steps": np.stack(moved) if moved else nothing,
        "changes": np.stack(changed) if changed else nothing,
        "curve": np.array(curve, np.float64),
        "evaluations": np.int64(evaluations),
        "resting": np.int64(resting),
    }


def _direction(point: _Point, pairs: list, low, high) -> np.ndarray:
    """Return the quasi-Newton direction of the values that are not held by a bound."""
    x, _, gradient = point
    held = ((x <= low) & (gradient > 0)) | ((x >= high) & (gradient < 0))
    free = np.where(held, np.float32(0), gradient)
    direction, factors = free.copy(), []
    for moved, changed in reversed(pairs):
        inverse = 1 / np.vdot(moved, changed)
        factor = inverse * np.vdot(moved, direction)
        direction -= factor * changed
        factors.append((factor, inverse))
    if pairs:
        moved, changed = pairs[-1]
        direction *= np.vdot(moved, changed) / np.vdot(changed, changed)
    for (moved, changed), (factor, inverse) in zip(pairs, reversed(factors), strict=True):
        direction += (factor - inverse * np.vdot(changed, direction)) * moved
    direction[held] = 0
    if not np.vdot(direction, free) > 0:
        direction = free
    return -direction


def _searched(evaluate, point, direction, low, high, is_first):
    """Return the first point along a direction that lowers the energy enough, and the tries."""
    largest = float(np.abs(direction).max(initial=0))
    if not np.isfinite(largest) or largest == 0:
        return None, 0
    length = min(1.0, _FIRST_CHANGE / largest) if is_first else 1.0
    for tries in range(1, _HALVINGS + 1):
        x = np.clip(point.x + np.float32(length) * direction, low, high)
        following = evaluate(x)
        slope = float(np.vdot(point.gradient, x - point.x))
        if following.value <= point.value + _ENOUGH * slope and slope < 0:
            return following, tries
        length *= _shorter(point.value, following.value, slope)
    return None, _HALVINGS


def _shorter(value: float, reached: float, slope: float) -> float:
    """Return by how much to shorten a step: the minimum of a parabola, within .1 and .5."""
    bend = reached - value - slope
    if not np.isfinite(bend) or bend <= 0:
        return 0.1 if not np.isfinite(bend) else 0.5
    return float(np.clip(-slope / (2 * bend), 0.1, 0.5))
