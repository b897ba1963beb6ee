"""The results of benchmarks as a picture: title, panels, legend.

Each file has a row of panels on the same axes, so that machines stand one below
the other.
"""

import collections
import os
import textwrap

from ringweave.commands import canvas
from ringweave.commands.bench_panels import (
    LETTER, SMALL, WIDTH, panels_of, size_text, with_unit)
from ringweave.commands.bench_results import EMULATED, Fields, joined
from ringweave.commands.common import Fault

TITLES = {
    "exchange": "Exchange alone, without computation",
    "attention": "Softmax attention, split over ranks, against the whole",
    "attention" + EMULATED: "Softmax attention with emulated compute",
    "linear": "Linear attention, split over ranks, against the whole",
    "linear" + EMULATED: "Linear attention with emulated compute",
    "model": "A step of training and its parts",
    "model" + EMULATED: "A step of training with emulated compute",
}
MOST_ROWS = 20
# What the fields are that stand beside the cases, or alike in all, and how a
# title tells them. It tells no others.
FACTS = {
    "topology": (Fields.text, os.path.basename),
    "ranks": (Fields.whole, "{} ranks".format),
    "processes": (Fields.truth, lambda own: (
        "a process each" if own else "threads of one process")),
    "device_table": (Fields.text, "as {} would compute".format),
    "parameters": (Fields.whole, lambda count: with_unit(
        count, " parameters")),
    "threads": (Fields.whole, "threads per rank: {}".format),
    "bytes": (Fields.number, lambda size: (
        f"{size_text(size)} per shard or state")),
    "batch": (Fields.whole, "batch {}".format),
    "seq_len": (Fields.whole, "{} tokens".format),
    "heads": (Fields.whole, "{} heads".format),
    "kv_heads": (Fields.whole, "{} kv_heads".format),
    "head_dim": (Fields.whole, "head_dim {}".format),
    "dtype": (Fields.text, str),
    "mask": (Fields.text, str),
    "layout": (Fields.text, str),
    "decay": (Fields.text, "decay {}".format),
    "backward": (Fields.truth, lambda both: (
        "forward and backward" if both else "forward")),
    "baseline": (Fields.text, "the whole: {}".format),
    "repeat": (Fields.whole, "medians of {} with least and most".format),
}


def draw(benches):
    """The picture of `benches`, which are all of one benchmark."""
    benches = joined(benches)
    if len(benches) > MOST_ROWS:
        raise Fault(f"got {len(benches)} files that measured different things, "
                    f"or the same twice; want at most {MOST_ROWS} rows")
    drawing = panels_of(benches)
    facts = list(map(_facts, benches))
    shared = [fact for fact in facts[0] if all(fact in own for own in facts)]
    title = _lines(shared)
    heights = [drawing.row_height(bench.cases) for bench in benches]
    figure = canvas.figure(WIDTH, 1.3 + 0.2 * title.count("\n") + sum(heights))
    figure.suptitle(canvas.plain(f"{TITLES[benches[0].title]}\n{title}"),
                    fontsize="medium")
    panels = figure.subplots(len(benches), len(drawing.columns), sharex=True,
                             sharey=drawing.sharey, squeeze=False,
                             height_ratios=heights)
    for bench, line, own, name in zip(benches, panels, facts, _names(benches)):
        for panel, column in zip(line, drawing.columns):
            panel.grid(alpha=0.3)
            panel.set_axisbelow(True)
            drawing.draw(panel, column, bench.cases)
            above = column
            if len(benches) > 1 and panel is line[0]:
                more = [name, *(fact for fact in own if fact not in shared)]
                above = f"{_lines(more)}\n{above}"
            panel.set_title(canvas.plain(above.strip()), fontsize="medium",
                            loc="left")
    drawing.finish(panels)
    _add_legend(figure, drawing.legend)
    return figure


def _facts(bench):
    """What was measured, in words: what all cases share."""
    fields = dict(bench.facts)
    for field in ("bytes", "seq_len"):
        values = {getattr(case, field, None) for case in bench.cases}
        if len(values) == 1 and None not in values:
            (fields[field],) = values
    if fields.get("compute") != "emulate":
        fields.pop("device_table", None)  # it is of predictions alone
    checked = Fields(fields, bench.path)
    return [canvas.clean(words(read(checked, field)), canvas.FILE_LETTERS)
            for field, (read, words) in FACTS.items()
            if fields.get(field) not in (None, "")]


def _lines(facts):
    """`facts` in lines that have room, none of them broken."""
    text = ", ".join(fact.replace(" ", "\xa0") for fact in facts)
    return textwrap.fill(text, 110).replace("\xa0", " ")


def _names(benches):
    """A name for each: that of its file, or its path where two are alike."""
    count = collections.Counter(bench.name for bench in benches)
    return [canvas.clean(bench.name if count[bench.name] == 1 else bench.path,
                         canvas.FILE_LETTERS)
            for bench in benches]


def _add_legend(figure, legend):
    longest = max(map(len, legend))
    columns = max(1, int(WIDTH / (LETTER * longest + 0.6)))
    rows = -(-len(legend) // columns)
    figure.set_figheight(figure.get_figheight() + 0.2 * rows)
    figure.legend(legend.values(), map(canvas.plain, legend),
                  loc="outside lower center", ncols=min(columns, len(legend)),
                  fontsize=SMALL, frameon=False)
