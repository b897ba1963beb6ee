"""What `ringweave train` wrote into the metrics of a run's folder."""

import json


def lines_of(run, kind=None):
    """All lines, or those of a kind."""
    text = (run / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return [line for line in lines if kind in (None, line["kind"])]
