"""python -m ringweave tensorboard: a run's metrics for TensorBoard."""

import math
import os

from ringweave.commands.common import (
    Fault, Parser, check_apart, library, readable, replaced, writing)
from ringweave.commands.run_metrics import Run, number_in

DESCRIPTION = """\
Writes the metrics of a run as an event file of TensorBoard.

  python -m ringweave tensorboard runs/first
  tensorboard --logdir runs/first/tensorboard

RUN is the folder of a run, or its metrics.jsonl. A run may be under way: the
same command later replaces what this one wrote."""

# One name, so that a later call replaces the file. TensorBoard looks for
# ".tfevents." in names.
FILE = "events.out.tfevents.0.ringweave"
TAGS = {"step": "train", "validation": "validation"}


def arguments_from(words):
    parser = Parser("tensorboard", DESCRIPTION)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--out", metavar="FOLDER",
                        help="the folder for the event file, made if it is "
                        "not there (tensorboard in the run's folder)")
    return parser.parse_args(words)


def main(words):
    arguments = arguments_from(words)
    run = Run(arguments.run)
    # The parts of the library that neither look for TensorFlow nor load it.
    event_pb2 = library("tensorboard.compat.proto.event_pb2")
    writer = library("tensorboard.summary.writer.record_writer").RecordWriter
    folder = arguments.out or os.path.join(run.folder, "tensorboard")
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise Fault(f"got {folder} to write to; want a folder")
    path = os.path.join(folder, FILE)
    check_apart(path, [run.path])
    with writing(path):
        os.makedirs(folder, exist_ok=True)
        with replaced(path) as aside, open(aside, "wb") as stream:
            records = writer(stream)
            for event in events_of(run, event_pb2.Event):
                records.write(event.SerializeToString())
    print(readable(path))


def events_of(run, event_class):
    """Yields the events of a run, the first of which says the format.

    Lines have no time of day. The file was last written at the end of the last
    step, so a step ended before that by the seconds of the steps after it.
    """
    after = run.seconds_after()
    began = os.stat(run.path).st_mtime - max(after.values())
    time = began
    yield event_class(wall_time=time, file_version="brain.Event:2")
    for line in run.lines:
        if line["kind"] == "step":
            time = began + after[line["step"]]
        event = event_class(wall_time=time, step=line["step"])
        for field in line:
            value = number_in(line, field)
            if field != "step" and not math.isnan(value):
                event.summary.value.add(tag=f"{TAGS[line['kind']]}/{field}",
                                        simple_value=value)
        yield event
