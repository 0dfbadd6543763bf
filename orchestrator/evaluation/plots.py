"""Where the marks of a plot stand, in pixels of a small SVG. The template `plot.svg` draws them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 420, 230
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 40
BINS = 20
MAX_GAINS = 500
"""Bars of one plot; of more questions every second, third and so on is drawn."""
_INNER_WIDTH, _INNER_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM


@dataclass(frozen=True)
class Tick:
    """A label on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Bar:
    """A bar; `kind` is its class in the style sheet, `title` what pointing at it shows."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str


@dataclass(frozen=True)
class Line:
    """A line through `points`, as SVG writes them; `kind` is its class, `label` its name in the legend."""

    points: str
    kind: str
    label: str


@dataclass(frozen=True)
class Plot:
    """One plot. Its size is WIDTH by HEIGHT."""

    title: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    bars: tuple[Bar, ...] = ()
    lines: tuple[Line, ...] = ()
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class _Scale:
    """Values from `low` to `high`, which are not equal, on pixels from `start` on."""

    low: float
    high: float
    start: float
    length: float

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * self.length, 2)

    def ticks(self) -> tuple[Tick, ...]:
        """At round values, about five of them."""
        step = _round_step((self.high - self.low) / 5)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return tuple(Tick(self(number * step), f"{number * step:.6g}") for number in range(first, last + 1))


def histogram(title: str, x_label: str, groups: Mapping[str, Sequence[float]], top: float | None = None) -> Plot | None:
    """How many questions have which value, from 0 up; several groups stand beside each other. None without values.

    `top` is the highest value that can be; left out, it is the highest there is.
    """
    values = [value for group in groups.values() for value in group]
    if not values:
        return None
    high = top or max(values) * 1.0001 or 1.0
    counts = {name: _counts(group, high) for name, group in groups.items()}
    x, y = _across(0, high), _up(0, max(max(each) for each in counts.values()))
    width = _INNER_WIDTH / BINS / len(counts)
    bars = tuple(
        Bar(
            round(x(number * high / BINS) + place * width + 0.5, 2), y(count), round(width - 1, 2), round(y(0) - y(count), 2),
            f"series-{place}", f"{name}: {count} from {number * high / BINS:.3g} to {(number + 1) * high / BINS:.3g}",
        )
        for place, (name, each) in enumerate(counts.items())
        for number, count in enumerate(each)
        if count
    )  # fmt: skip
    legend = tuple(Line("", f"series-{place}", name) for place, name in enumerate(counts)) if len(counts) > 1 else ()
    return Plot(title, x_label, "questions", x.ticks(), y.ticks(), bars, legend)


def curves(title: str, x_label: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> Plot | None:
    """Lines of shares, 0 to 1, over a threshold. None without points."""
    across = [x for points in series.values() for x, _ in points]
    if not across or min(across) == max(across):
        return None
    x, y = _across(min(across), max(across)), _up(0, 1)
    lines = tuple(
        Line(" ".join(f"{x(at)},{y(value)}" for at, value in points), f"series-{place}", name)
        for place, (name, points) in enumerate(series.items())
    )
    return Plot(title, x_label, "", x.ticks(), y.ticks(), lines=lines)


def columns(title: str, y_label: str, values: Mapping[str, float]) -> Plot | None:
    """A bar a name, numbered from 1 in their order. None without values above 0."""
    if not values or max(values.values()) <= 0:
        return None
    y, width = _up(0, max(values.values())), _INNER_WIDTH / len(values)
    bars = tuple(
        Bar(
            round(LEFT + place * width + 1, 2), y(value), round(max(width - 2, 1), 2), round(y(0) - y(value), 2), "series-0",
            f"{name}: {value:,.6g}",
        )
        for place, (name, value) in enumerate(values.items())
    )  # fmt: skip
    ticks = tuple(Tick(round(LEFT + (place + 0.5) * width, 2), str(place + 1)) for place in range(len(values)))
    return Plot(title, "", y_label, ticks, y.ticks(), bars)


def gains(title: str, differences: Sequence[tuple[str, float]]) -> Plot | None:
    """What each query won or lost, in order, as one bar each. None when none did."""
    changed = sorted((gain, name) for name, gain in differences if gain)
    if not changed:
        return None
    told = f"{len(changed)} questions that changed"
    changed = changed[:: math.ceil(len(changed) / MAX_GAINS)]
    reach = max(abs(gain) for gain, _ in changed)
    y, width = _up(-reach, reach), _INNER_WIDTH / len(changed)
    bars = tuple(
        Bar(
            round(LEFT + place * width, 2), min(y(0), y(gain)), round(max(width - 0.3, 0.3), 2),
            round(abs(y(gain) - y(0)), 2), "win" if gain > 0 else "loss", f"{name}: {gain:+.3f}",
        )
        for place, (gain, name) in enumerate(changed)
    )  # fmt: skip
    return Plot(title, told, "gain", (), y.ticks(), bars)


def _counts(values: Sequence[float], high: float) -> list[int]:
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, max(0, int(value / high * BINS)))] += 1
    return counts


def _across(low: float, high: float) -> _Scale:
    return _Scale(low, high, LEFT, _INNER_WIDTH)


def _up(low: float, high: float) -> _Scale:
    return _Scale(low, high, HEIGHT - BOTTOM, -_INNER_HEIGHT)


def _round_step(least: float) -> float:
    """The next of 1, 2, 5, 10, … times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
