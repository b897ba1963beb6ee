"""The curves of runs as a picture."""

import bisect
import collections
import math

from ringweave.commands import canvas
from ringweave.commands.common import library
from ringweave.commands.run_metrics import number_in


def means(values, count):
    """Of each value and the count - 1 before it, the mean without NaNs."""
    window, result = collections.deque(maxlen=count), []
    for value in values:
        window.append(value)
        known = [each for each in window if not math.isnan(each)]
        result.append(math.fsum(known) / len(known) if known else math.nan)
    return result


def names_of(runs):
    """A name for each: that of its folder, or its path where two are alike."""
    names = collections.Counter(run.name for run in runs)
    return [canvas.clean(run.name if names[run.name] == 1 else run.given,
                         canvas.FILE_LETTERS)
            for run in runs]


def draw(runs, x, smooth):
    """The picture of `runs`, over "step" or "seconds"."""
    figure = canvas.figure(9, 9)
    panels = figure.subplots(3, 1, sharex=True)
    for panel, label in zip(panels, ("loss in nats", "tokens/s",
                                     "waiting in % of the time")):
        panel.set_ylabel(label)
        panel.grid(alpha=0.3)
    panels[1].yaxis.set_major_formatter(
        library("matplotlib.ticker").EngFormatter())
    panels[-1].set_xlabel("step" if x == "step" else "seconds of steps")
    colors = _colors(len(runs))
    for run, color in zip(runs, colors):
        _draw_run(panels, run, color, x, smooth)
    for panel in panels[1:]:
        panel.set_ylim(bottom=0)
    _add_legend(library("matplotlib.lines").Line2D, panels[0], runs, colors)
    return figure


def _colors(count):
    if count <= 10:
        return [f"C{i}" for i in range(count)]
    colors = library("matplotlib").colormaps["turbo"]
    return [colors(i / (count - 1)) for i in range(count)]


def _places(run, x):
    """A function from a step to where it lies on the x axis."""
    if x == "step":
        return lambda step: step
    after = run.seconds_after()
    steps = sorted(after)

    def place(step):
        """Of a step without a line, the place of the last one before it."""
        before = bisect.bisect_right(steps, step)
        return after[steps[before - 1]] if before else 0.0

    return place


def _draw_run(panels, run, color, x, smooth):
    place = _places(run, x)
    at = [place(line["step"]) for line in run.steps]

    def curve(panel, field, factor=1.0):
        values = [factor * number_in(line, field) for line in run.steps]
        # A point, since a run of one step has no line.
        marker = "." if len(at) == 1 else None
        if smooth > 1:
            panel.plot(at, values, color=color, alpha=0.25, linewidth=0.8)
        panel.plot(at, means(values, smooth), color=color, marker=marker)

    curve(panels[0], "loss")
    curve(panels[1], "tokens_per_second")
    curve(panels[2], "waiting_share_mean", 100.0)
    if run.validations:
        panels[0].plot(
            [place(line["step"]) for line in run.validations],
            [number_in(line, "loss") for line in run.validations],
            color=color, marker="o", markersize=4, linestyle="--")
    for step in sorted({line["step"] for line in run.resumes}):
        for panel in panels:
            panel.axvline(place(step), color=color, linestyle=":")


def _add_legend(line, panel, runs, colors):
    """A row per run, and what dashes and dots mean, where there are any."""
    entries = [(line([], [], color=color), canvas.plain(name))
               for name, color in zip(names_of(runs), colors)]
    if any(run.validations for run in runs):
        entries.append((line([], [], color="gray", marker="o", markersize=4,
                             linestyle="--"), "validation"))
    if any(run.resumes for run in runs):
        entries.append((line([], [], color="gray", linestyle=":"), "resume"))
    panel.legend(*zip(*entries), fontsize="small")
