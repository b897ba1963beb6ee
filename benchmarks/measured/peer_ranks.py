"""Ranks of benchmarks/measured/peers.py: they time methods, or compare them with a
reference. The argument is a JSON object; its file of results gets what was found.

Every call of a method by its ranks is made in processes of its own, forked from this
one after the imports: another library's refusal may end a process, or let the other
ranks wait for ever.
"""

import datetime
import functools
import importlib
import json
import os
import pathlib
import signal
import sys
import tempfile
import time
import traceback

import peer_calls
import torch
import torch.distributed as dist
from peer_calls import Mask

SEED = 17
# A group's, which is longer than what a case takes.
PATIENCE = datetime.timedelta(seconds=60)
GRACE = 0.5  # seconds that the others have once a rank has failed
CASE_SECONDS = 20.0  # of a comparison
IMPORTS = ("ringweave", "torch._dynamo", "einops._torch_specific")


def whole(case, tokens, dtype):
    """q, k, v and the output's gradient, the same on all ranks."""
    made = torch.Generator().manual_seed(SEED)
    heads = case["heads"], case["kv_heads"], case["kv_heads"], case["heads"]
    return [torch.randn(1, tokens, count, case["head_dim"], generator=made,
                        dtype=torch.float64).to(dtype) for count in heads]


def positions(layout, tokens, rank, ranks):
    import ringweave
    return ringweave.positions(ringweave.layout(layout, tokens, ranks), rank)


@functools.lru_cache(maxsize=1)
def reference(case):
    """Inputs; output and gradients of the whole sequence on one device, in float64.
    `case` is its JSON. Computed before the fork, without autograd, whose threads
    would not outlive it."""
    case = json.loads(case)
    parts = whole(case, case["tokens"], getattr(torch, case["dtype"]))
    q, k, v, out_grad = (x.double().transpose(1, 2) for x in parts)
    groups, scale = case["heads"] // case["kv_heads"], case["head_dim"] ** -0.5
    k, v = (x.repeat_interleave(groups, 1) for x in (k, v))
    scores = q @ k.mT * scale
    scores.masked_fill_(~mask_of(case).seen(case["tokens"]), float("-inf"))
    weights = scores.softmax(-1)
    out = weights @ v
    down = weights * (out_grad @ v.mT - (out_grad * out).sum(-1, keepdim=True))
    of_k, of_v = (x.unflatten(1, (-1, groups)).sum(2) for x in (
        down.mT @ q * scale, weights.mT @ out_grad))
    return parts, [x.transpose(1, 2) for x in (out, down @ k * scale, of_k, of_v)]


def mask_of(case):
    documents = case.get("documents")
    return Mask(case["mask"], case.get("window"), documents and tuple(documents))


def errors(method, case, tokens, rank, ranks):
    """Largest differences of the output, of q's gradient, and of k's and v's."""
    parts, (want_out, *want) = reference(json.dumps(case))
    mask = mask_of(case)
    mine = positions(method.layout, tokens, rank, ranks)
    q, k, v, out_grad = (method.order(x[:, mine]) for x in parts)
    out, gradients = method.gradients(q, k, v, out_grad, mask, tokens)

    def difference(got, wanted):
        got, wanted = method.order(got).double(), wanted[:, mine]
        if got.shape != wanted.shape:
            raise ValueError(f"gave a shape {tuple(got.shape)}, of "
                             f"{tuple(wanted.shape)}")
        if not got.isfinite().all():
            return float("inf")
        return (got - wanted).abs().max().item() if got.numel() else 0.0

    of_q, of_k, of_v = map(difference, gradients, want)
    return difference(out, want_out), of_q, max(of_k, of_v)


def together(ranks, seconds, call):
    """What call(rank) gave on each of `ranks` processes, or what the first one to
    fail said: {"refused": text}."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        left = {fork(folder, rank, ranks, call): rank for rank in range(ranks)}
        end, failed = time.monotonic() + seconds, []
        while left and time.monotonic() < end:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                time.sleep(0.005)
                continue
            rank = left.pop(pid)
            if status != 0:
                failed.append((rank, status))
                end = min(end, time.monotonic() + GRACE)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        if failed:
            return {"refused": why(folder, failed)}
        if left:
            return {"refused": f"no answer in {seconds:.0f} s"}
        return [json.loads((folder / f"{rank}.json").read_text())
                for rank in range(ranks)]


def fork(folder, rank, ranks, call):
    if pid := os.fork():
        return pid
    status = 1
    try:
        said = os.open(folder / f"{rank}.txt", os.O_WRONLY | os.O_CREAT)
        os.dup2(said, 1)
        os.dup2(said, 2)
        # What DeepSpeed looks for, although the group is there.
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank),
                          WORLD_SIZE=str(ranks))
        store = dist.FileStore(str(folder / "store"), ranks)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks,
                                timeout=PATIENCE)
        found = call(rank)
        dist.barrier()
        (folder / f"{rank}.json").write_text(json.dumps(found))
        status = 0
    except BaseException as error:  # whatever another library raises
        (folder / f"{rank}.json").write_text(json.dumps(
            [time.monotonic(), text_of(error)]))
        traceback.print_exc()
    finally:
        os._exit(status)


def text_of(error):
    if isinstance(error, peer_calls.Refused):
        return str(error)
    lines = str(error).strip().splitlines()
    return type(error).__name__ + (f": {lines[0]}" if lines else "")


def why(folder, failed):
    """Of the first exception; of the first signal if no rank had one before."""
    raised = [json.loads((folder / f"{rank}.json").read_text())
              for rank, status in failed if not os.WIFSIGNALED(status)]
    killed = [(rank, os.WTERMSIG(status)) for rank, status in failed
              if os.WIFSIGNALED(status)]
    if killed and (failed[0][0] == killed[0][0] or not raised):
        rank, number = killed[0]
        lines = (folder / f"{rank}.txt").read_text(errors="replace").splitlines()
        what = [line.split("what():")[1].strip() for line in lines
                if "what():" in line]
        return ": ".join([f"the process ends by {signal.Signals(number).name}",
                          *what[:1]])
    return min(raised)[1]


def compare(task):
    results = []
    for ranks, cases in task["cases"]:
        for case in cases:
            reference(json.dumps(case))
            for method in chosen(task):
                found = together(ranks, CASE_SECONDS, lambda rank: errors(
                    method, case, case["tokens"], rank, ranks))
                if not isinstance(found, dict):
                    found = {"errors": [max(parts) for parts in zip(*found)]}
                results.append({"ranks": ranks, "method": method.name,
                                "case": case["name"], **found})
    return results


def chosen(task):
    return [method for method in peer_calls.methods()
            if not task.get("methods") or method.name in task["methods"]]


def timed(call):
    dist.barrier()
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def rounds(calls, task):
    """Seconds of each call, in turn, so that a slow moment meets all of them; the
    order turns too. Stops early, all ranks alike, when the case had its time."""
    found = {name: [] for name in calls}
    names, began = list(calls), time.monotonic()
    for turn in range(-1, task["repeat"]):  # the first one warms up
        late = [turn >= 3 and time.monotonic() - began > task["case_seconds"]]
        dist.broadcast_object_list(late, 0)
        if late[0]:
            break
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            taken = [timed(call) for call in calls[name]]
            if turn >= 0:
                found[name].append(taken)
    return found


def checked(task, case, ranks):
    """Methods that take such a case, and whether their gradients are right."""
    small = {**case, "tokens": 128 * ranks, "dtype": "float32"}
    reference(json.dumps(small))
    found = {}
    for method in chosen(task):
        if case["mask"] in method.masks:
            result = together(ranks, CASE_SECONDS, lambda rank: errors(
                method, small, small["tokens"], rank, ranks))
            if not isinstance(result, dict):
                found[method.name] = max(map(max, result)) < 1e-3
    return found


def measure(task):
    results = []
    for ranks, cases in task["cases"]:
        for case in cases:
            right = checked(task, case, ranks)
            found = together(ranks, 2 * task["case_seconds"] + 60, lambda rank:
                             time_case(task, case, list(right), rank, ranks))
            if isinstance(found, dict):
                raise SystemExit(f"{case['name']}: {found['refused']}")
            for name in found[0]:
                # A call takes as long as its slowest rank.
                slowest = torch.tensor([one[name] for one in found]).amax(0)
                forward, training = slowest.T.tolist()
                results.append({"case": case["name"], "method": name,
                                "right": right[name],
                                "forward_seconds": forward,
                                "training_seconds": training})
    return results


def time_case(task, case, names, rank, ranks):
    parts, mask = whole(case, case["tokens"], torch.float32), mask_of(case)
    return rounds({method.name: both(method, parts, mask, case["tokens"], rank, ranks)
                   for method in chosen(task) if method.name in names}, task)


def both(method, parts, mask, tokens, rank, ranks):
    mine = positions(method.layout, tokens, rank, ranks)
    q, k, v, out_grad = (method.order(x[:, mine]) for x in parts)
    return (lambda: method.output(q, k, v, mask, tokens),
            lambda: method.gradients(q, k, v, out_grad, mask, tokens))


def main():
    task = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    for name in {*IMPORTS, *(name for method in chosen(task)
                             for name in method.modules)}:
        importlib.import_module(name)
    positions("zigzag", 2, 0, 1)  # loads the library
    results = {"time": measure, "error": compare}[task["what"]](task)
    pathlib.Path(task["results"]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
