"""The panels of draw_benches: bars of times, curves over sizes, bars of ratios,
bars of parts.

Bars lie, so that long names have room beside them. A class draws all panels of
a picture, and has

    columns   what the panels of a row are of: passes, or nothing
    row_height(cases), sharey
    draw(panel, column, cases)   of all columns
    finish(panels)
    legend    label -> what stands for it
"""

from ringweave.commands import canvas
from ringweave.commands.bench_results import Ratio, Time
from ringweave.commands.common import Fault, library

WIDTH = 11.0  # inches of a picture
LETTER = 0.068  # inches of a letter in small print, rather too many
SMALL = "small"
# Okabe and Ito's colours, which the colour-blind tell apart, without yellow,
# which is faint on white. Curves differ by their markers too.
BLUE, ORANGE, GREEN, RED, PINK, SKY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
MOST_CASES = 200  # of a picture with a bar for each
COLORS = (BLUE, RED, GREEN, PINK, ORANGE, SKY, "#666666", "#882255")
MARKERS = "osD^vPX<>*"
MOST_NAMES = 40  # for which a colour and a marker are together new
BARE = "the same messages at once (bare)"
BOUND = "bound of all transfers"
# Least and most.
SPREAD = {"ecolor": "black", "capsize": 2.5, "elinewidth": 1}


def panels_of(benches):
    """What draws `benches`, by the kind of their cases."""
    cases = [case for bench in benches for case in bench.cases]
    if isinstance(cases[0], Time):
        several = any(len({case.bytes for case in bench.cases}) > 1
                      for bench in benches)
        return (Curves if several else Times)(cases)
    return (Ratios if isinstance(cases[0], Ratio) else Steps)(cases)


def with_unit(value, unit):
    """0.67531, "s" -> "675 ms"."""
    formatter = library("matplotlib.ticker").EngFormatter(unit)
    return formatter(float(f"{value:.3g}"))


def size_text(number):
    """Bytes as one types them for --shard-bytes, or rounded."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if number >= 2**power and number * 8 % 2**power == 0:
            return f"{number / 2**power:g} {unit}"
    return with_unit(number, "B")


def columns_of(cases):
    """Passes, in the order of the file."""
    return tuple(dict.fromkeys(case.direction for case in cases))


def of_column(cases, column):
    return [case for case in cases if not column or case.direction == column]


def beyond(spread):
    """`spread` as the lengths that errorbar takes, for one point."""
    return [[spread.median - spread.least], [spread.most - spread.median]]


class Bars:
    """A bar per case, from the top, with its name on the left and its figures
    behind it."""

    columns = ("",)
    sharey = "row"
    unit = "s"

    def __init__(self, cases):
        if len(cases) > MOST_CASES:
            raise Fault(f"got {len(cases)} cases; want at most {MOST_CASES} in "
                        "a picture")
        self.legend = {}
        self.ends = []  # of bars, on the x axis, and letters of their texts
        self.name_letters = max(len(line) for case in cases
                                for line in self.name(case).split("\n"))

    def name(self, case):
        return case.name

    def names(self, cases):
        """Each once, in the order of the file."""
        return list(dict.fromkeys(map(self.name, cases)))

    def row_height(self, cases):
        lines = sum(max(2, name.count("\n") + 1) for name in self.names(cases))
        return 0.55 + 0.22 * lines

    def draw(self, panel, column, cases):
        names = self.names(cases)
        panel.set_yticks(range(len(names)), map(canvas.plain, names),
                         fontsize=SMALL)
        panel.set_ylim(len(names) - 0.4, -0.6)
        panel.grid(axis="y", visible=False)
        for case in of_column(cases, column):
            y = names.index(self.name(case))
            end, text = self.draw_case(panel, y, case)
            panel.annotate(text, (end, y), (6, 0), va="center", fontsize=SMALL,
                           textcoords="offset points")
            self.ends.append((end, len(text)))

    def bar(self, panel, y, spread, height, color, label):
        panel.barh(y, spread.median, height, color=color)
        panel.errorbar(spread.median, y, xerr=beyond(spread), fmt="none",
                       **SPREAD)
        self.legend.setdefault(label, panel.patches[-1])
        return spread.most

    def finish(self, panels):
        width = (WIDTH - LETTER * self.name_letters) / len(self.columns) - 0.4
        most = max(end / (1 - min(0.6, (0.15 + LETTER * letters) / width))
                   for end, letters in self.ends)
        ticker = library("matplotlib.ticker")
        for panel in panels[-1]:
            panel.set_xlim(0, most or 1)
            panel.set_xlabel(self.xlabel)
            panel.xaxis.set_major_locator(ticker.MaxNLocator(5))
            if self.unit:
                panel.xaxis.set_major_formatter(ticker.EngFormatter(self.unit))


class Times(Bars):
    """A schedule's time beside what it is compared with."""

    xlabel = "time"
    # Across a case's bars: label -> seconds, style.
    lines = {
        BOUND: (lambda case: case.bound, {"color": "black"}),
        "compute alone": (lambda case: case.compute, {"color": GREEN}),
        "compute and transfers overlapped": (lambda case: case.overlapped, {
            "color": PINK}),
    }

    def __init__(self, cases):
        super().__init__(cases)
        self.columns = columns_of(cases)

    def draw_case(self, panel, y, case):
        ends = [self.bar(panel, y - 0.12, case.seconds, 0.4, SKY, "measured")]
        if case.bare:
            ends.append(self.bar(panel, y + 0.22, case.bare, 0.2, ORANGE,
                                 BARE))
        for label, (seconds, style) in self.lines.items():
            if seconds(case) is not None:
                ends.append(seconds(case))
                self.legend.setdefault(label, panel.vlines(
                    seconds(case), y - 0.4, y + 0.4, linewidth=2, **style))
        if case.predicted is not None:
            # On top of the bar, where it hides no spread.
            (mark,) = panel.plot(case.predicted, y - 0.38, marker="v",
                                 markersize=6, linestyle="", color=RED)
            self.legend.setdefault("predicted", mark)
            ends.append(case.predicted)
        median = case.seconds.median
        text = with_unit(median, "s")
        if case.overlapped:
            text += f", {median / case.overlapped:.2f} × overlapped"
        elif case.bound and case.compute is None:
            text += f", {median / case.bound:.2f} × bound"
        return max(ends), text


class Ratios(Bars):
    xlabel = "time of the split / time of the whole"
    unit = ""

    def draw_case(self, panel, y, case):
        self.legend.setdefault("the whole", panel.axvline(
            1, color="black", linewidth=1.5))
        end = self.bar(panel, y, case.ratio, 0.55, SKY, "split")
        median, least, most = case.ratio
        return max(1, end), f"{median:.3f}  ({least:.3f} to {most:.3f})"


class Steps(Bars):
    """The parts of a step, one after the other, and the whole step."""

    xlabel = "time of a step"

    def __init__(self, cases):
        parts = dict.fromkeys(part for case in cases for part in case.parts)
        colors = (SKY, RED, ORANGE, GREEN, PINK, BLUE, "#666666")
        if len(parts) > len(colors):
            raise Fault(f"got {len(parts)} parts of a step; want at most "
                        f"{len(colors)}, one per colour")
        self.colors = dict(zip(parts, colors))
        self.several = len({case.seq_len for case in cases}) > 1
        super().__init__(cases)

    def name(self, case):
        lines = [f"{kind} {name}" for kind, name in (
            ("softmax", case.softmax), ("linear", case.linear)) if name]
        if self.several or not lines:
            lines.append(f"{case.seq_len:.0f} tokens")
        return "\n".join(lines)

    def draw_case(self, panel, y, case):
        left = 0.0
        for part, spread in case.parts.items():
            bar = panel.barh(y, spread.median, 0.55, left=left,
                             color=self.colors[part], edgecolor="white",
                             linewidth=0.5)
            self.legend.setdefault(part, bar)
            left += spread.median
        whole = panel.errorbar(
            case.seconds.median, y, xerr=beyond(case.seconds), fmt="D",
            color="black", markersize=5, **SPREAD)
        self.legend.setdefault("the whole step", whole)
        if case.predicted is not None:
            mark = panel.plot(case.predicted, y, "|", color="black",
                              markersize=20)
            self.legend.setdefault("predicted", mark[0])
        text = with_unit(case.seconds.median, "s")
        if case.tokens_per_second is not None:
            text += ", " + with_unit(
                case.tokens_per_second, " tokens/s").replace("  ", " ")
        if case.peak_bytes is not None:
            text += f", peak {with_unit(case.peak_bytes, 'B')}"
        return max(left, case.seconds.most, case.predicted or 0), text


class Curves:
    """Time over bytes, both logarithmic, a curve per strategy."""

    sharey = True
    # What stands beside a strategy's curve: label -> seconds, style.
    beside = {
        BOUND: (lambda case: case.bound, {
            "color": "black", "linestyle": "--", "linewidth": 1.2}),
        "predicted": (lambda case: case.predicted, {
            "linestyle": ":", "linewidth": 1.5}),
        BARE: (lambda case: case.bare and case.bare.median, {
            "marker": "_", "markersize": 9, "linestyle": ""}),
    }

    def __init__(self, cases):
        self.columns = columns_of(cases)
        self.sizes = sorted({case.bytes for case in cases})
        for case in cases:
            if not case.seconds.median:
                raise Fault(f"got 0 seconds of {case.name} {case.direction}; "
                            "want more, since curves over sizes have "
                            "logarithmic axes")
        names = dict.fromkeys(case.name for case in cases)
        if len(names) > MOST_NAMES:
            raise Fault(f"got {len(names)} names of cases with several sizes; "
                        f"want at most {MOST_NAMES}, a curve each")
        self.styles = {name: {"color": COLORS[i % len(COLORS)],
                              "marker": MARKERS[i % len(MARKERS)]}
                       for i, name in enumerate(names)}
        line = library("matplotlib.lines").Line2D
        self.legend = {name: line([], [], **style)
                       for name, style in self.styles.items()}
        for label, (seconds, style) in self.beside.items():
            if any(seconds(case) is not None for case in cases):
                self.legend[label] = line([], [], **{"color": "gray", **style})

    def row_height(self, cases):
        return 4.5

    def draw(self, panel, column, cases):
        panel.set(xscale="log", yscale="log")
        for name, style in self.styles.items():
            own = sorted((case for case in of_column(cases, column)
                          if case.name == name), key=lambda case: case.bytes)
            if own:
                self.draw_curve(panel, own, style)

    def draw_curve(self, panel, cases, style):
        """Of one strategy."""
        sizes = [case.bytes for case in cases]
        lengths = [beyond(case.seconds) for case in cases]
        panel.errorbar(sizes, [case.seconds.median for case in cases],
                       yerr=[sum(sides, []) for sides in zip(*lengths)],
                       markersize=5, linewidth=1.5, capsize=2.5, **style)
        for seconds, other in self.beside.values():
            known = [case for case in cases if seconds(case) is not None]
            if known:
                panel.plot([case.bytes for case in known],
                           list(map(seconds, known)), zorder=1,
                           **{"color": style["color"], **other})

    def finish(self, panels):
        ticker = library("matplotlib.ticker")
        for panel in panels[-1]:
            panel.set_xlabel("a shard's keys and values, or a state")
            panel.set_xticks(self.ticks(), map(size_text, self.ticks()))
            panel.xaxis.set_minor_locator(ticker.NullLocator())
        for panel, *_ in panels:
            least, most = panel.get_ylim()
            subs = (1, 2, 5) if most / least < 1e5 else (1,)
            panel.set_ylabel("time")
            panel.yaxis.set_major_locator(ticker.LogLocator(subs=subs))
            panel.yaxis.set_major_formatter(ticker.EngFormatter("s"))
            panel.yaxis.set_minor_formatter(ticker.NullFormatter())

    def ticks(self):
        """Sizes whose labels have room beside each other."""
        most = 14 // len(self.columns)
        least_ratio = (self.sizes[-1] / self.sizes[0]) ** (1 / most)
        kept = self.sizes[:1]
        for size in self.sizes[1:]:
            if size >= kept[-1] * least_ratio:
                kept.append(size)
        return kept
