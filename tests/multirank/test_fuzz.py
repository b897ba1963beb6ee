"""Random programs of operations, on 2 to 4 processes, against the dense truth.

A seed makes a program: groups, calls with layouts, masks, types, heads and ways
to travel, with and without gradients and checkpointing, beside messages of the
program's own; calls that some ranks refuse; the program's own failures, after
which groups are made anew. All ranks make the same one of a seed.

RINGWEAVE_SEEDS=BEGIN:END runs these seeds instead of 300; a failure prints its
seed and what the program did.
"""

import datetime
import os
import random
import unittest

import torch
import torch.distributed as dist
from torch.utils.checkpoint import checkpoint

import harness

RANKS = (2, 3, 4)
BEGIN, END = map(int, os.environ.get("RINGWEAVE_SEEDS", "0:300").split(":"))
# Seeds that found faults, by the number of ranks.
FOUND = {3: (80,)}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 4e-2,
             torch.float16: 5e-3}


# --- the truth, in fp64 on one device -------------------------------------


def visible(mask, tokens):
    """(tokens, tokens) of queries and keys."""
    q, k = torch.arange(tokens)[:, None], torch.arange(tokens)[None]
    seen = k <= q if mask["kind"] == "causal" else torch.ones_like(k <= q)
    window = mask.get("window", {})
    if "left" in window:
        seen = seen & (k >= q - window["left"])
    if "right" in window:
        seen = seen & (k <= q + window["right"])
    offsets = torch.tensor(mask.get("document_offsets", [0, tokens]))
    of = torch.searchsorted(offsets, torch.arange(tokens), right=True)
    return seen & (of[:, None] == of[None])


def dense_softmax(q, k, v, mask, scale):
    """Rows that see no key are zero."""
    groups = q.shape[2] // k.shape[2]
    if q.shape[1] == 0:
        return (q + k.sum() + v.sum()) * 0
    k, v = (x.repeat_interleave(groups, 2) for x in (k, v))
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * scale
    seen = visible(mask, q.shape[1])
    weights = torch.where(
        seen, (scores - torch.where(seen, scores, -torch.inf).amax(
            -1, keepdim=True).clamp(min=-1e300).detach()).exp(), 0)
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-300)
    return torch.einsum("bhqk,bkhd->bqhd", weights, v)


def dense_linear(q, k, v, gates, initial, mask, scale):
    """The output, and the state after the last token."""
    batch, tokens = q.shape[:2]
    states = k.shape[2]
    groups = q.shape[2] // states
    q = q.unflatten(2, (states, groups))
    if gates is not None and gates.dim() == 1:
        gates = gates.expand(batch, tokens, -1)
    if gates is not None and gates.dim() == 3:
        gates = gates[..., None]
    state = torch.zeros(batch, states, k.shape[3], v.shape[3],
                        dtype=torch.float64)
    if initial is not None:
        state = state + initial
    starts = set(mask.get("document_offsets", [0])) - {0}
    updates = torch.einsum("bthk,bthv->tbhkv", k, v)
    if mask["kind"] == "full":
        state = state + updates.sum(0)
        out = torch.einsum("bthgk,bhkv->bthgv", q, state)
        return scale * out.flatten(2, 3), state
    out = []
    for t in range(tokens):
        if t in starts:
            state = torch.zeros_like(state)
        elif gates is not None:
            state = state * gates[:, t].exp()[..., None]
        state = state + updates[t]
        out.append(torch.einsum("bhgk,bhkv->bhgv", q[:, t], state))
    out = torch.stack(out, 1) if out else torch.zeros(
        batch, 0, states, groups, v.shape[3], dtype=torch.float64)
    return scale * out.flatten(2, 3), state


# --- one program -----------------------------------------------------------


class Wrong(Exception):
    pass


class Program:
    """What the ranks of one world do for one seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.log = []
        self.groups = []  # of the program: (group, members); None: the default
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def run(self):
        self.make_groups()
        for _ in range(self.random.randint(3, 8)):
            group, members = self.random.choice(self.groups)
            step = self.random.choices(
                (self.attention, self.linear, self.unshard, self.refusal,
                 self.failure, self.mode),
                weights=(6, 6, 2, 3, 1, 1))[0]
            state = self.random.getrandbits(64), self.random.getrandbits(62)
            if step == self.failure:  # of all ranks
                self.failure()
            elif self.rank in members:
                saved = self.random, self.generator
                self.random = random.Random(state[0])
                self.generator = torch.Generator().manual_seed(state[1])
                step(group, members)
                self.random, self.generator = saved
        self.end_groups()

    def say(self, text):
        self.log.append(text)

    def make_groups(self):
        everyone = list(range(self.size))
        self.groups = [(None, everyone), (dist.new_group(everyone), everyone)]
        for _ in range(self.random.randint(0, 2)):
            members = sorted(self.random.sample(
                range(self.size), self.random.randint(1, self.size)))
            self.groups.append((dist.new_group(members), members))

    def end_groups(self):
        for group, members in self.groups[1:]:
            if self.rank in members:
                dist.destroy_process_group(group)
        self.groups = []

    def failure(self):
        """Of the program itself, in the middle of a pass."""
        import ringweave
        self.say("failure")
        group, members = self.groups[1]
        layout = ringweave.layout("zigzag", 11, len(members))
        parts = [ringweave.shard(torch.ones(1, 11, 1, 4), layout, group=group)
                 .requires_grad_() for _ in range(3)]
        try:
            ringweave.attention(*parts, layout=layout, group=group)
            raise ZeroDivisionError
        except ZeroDivisionError:
            self.end_groups()
            self.make_groups()

    def mode(self, group, members):
        import ringweave
        ringweave.set_agreement(
            self.random.choice(("every", "first_use", "off")), group=group)
        self.attention(group, members)
        self.linear(group, members)
        ringweave.set_agreement("every", group=group)

    # What a call is made of.

    def tensor(self, *shape):
        return torch.randn(*shape, generator=self.generator,
                           dtype=torch.float64)

    def layout(self, ranks, tokens, runs_only):
        import ringweave
        kinds = ["contiguous", "zigzag", "explicit"]
        kind = self.random.choice(kinds if runs_only else [*kinds, "striped"])
        if kind != "explicit":
            return ringweave.layout(kind, tokens, ranks)
        cuts = sorted({0, tokens, *(self.random.randint(0, tokens)
                                    for _ in range(5))})
        runs = [[] for _ in range(ranks)]
        for begin, end in zip(cuts, cuts[1:]):
            self.random.choice(runs).append([begin, end - begin, 1])
        return {"kind": "explicit", "tokens": tokens, "runs": runs}

    def documents(self, tokens):
        cuts = sorted({0, tokens, *(self.random.randint(1, max(1, tokens - 1))
                                    for _ in range(3))})
        as_type = self.random.choice((list, torch.tensor))
        return cuts, as_type(cuts)

    def mask(self, tokens, linear, gated=False):
        """For the call, and for the truth."""
        kind = self.random.choice(("causal", "causal", "full"))
        if gated:
            kind = "causal"
        mask, truth = {"kind": kind}, {"kind": kind}
        if not linear and self.random.random() < 0.3:
            window = {side: self.random.randint(0, tokens)
                      for side in self.random.sample(
                          ("left", "right"), self.random.randint(1, 2))}
            mask["window"] = truth["window"] = window
        if (tokens > 1 and self.random.random() < 0.4
                and not (linear and kind == "full")):
            truth["document_offsets"], mask["document_offsets"] = (
                self.documents(tokens))
        return mask, truth

    def differentiate(self, call, inputs, weights, dtype, group):
        """Runs call(*inputs), whose results are weighted and summed; returns
        the results and the gradients, of None for none."""
        way = self.random.choice(("plain", "plain", "reentrant",
                                  "non_reentrant", "retained", "no_grad"))
        self.say(way)
        if way == "no_grad":
            with torch.no_grad():
                return call(*inputs), None
        leaves = [x if x is None else x.clone().requires_grad_()
                  for x in inputs]
        if way in ("reentrant", "non_reentrant"):
            results = checkpoint(call, *leaves, use_reentrant=way == "reentrant")
        else:
            results = call(*leaves)
        loss = sum((result.double() * weight).sum()
                   for result, weight in zip(results, weights))
        if way == "retained":
            torch.autograd.grad(loss, [x for x in leaves if x is not None],
                                retain_graph=True)
        loss.backward()
        return results, [None if x is None else x.grad for x in leaves]

    def compare(self, name, got, want, dtype):
        got, want = got.detach().double(), want.detach().double()
        if got.shape != want.shape:
            raise Wrong(f"{name}: shape {got.shape}, want {want.shape}")
        scale = max(1.0, want.abs().max().item() if want.numel() else 0)
        error = (got - want).abs().max().item() / scale if want.numel() else 0
        if not error <= TOLERANCE[dtype]:  # NaN, too
            raise Wrong(f"{name}: error {error}")

    def beside_messages(self, group, members, act):
        """act() between a message of the program's and its end."""
        if len(members) == 1 or self.random.random() < 0.5:
            return act()
        at = members.index(self.rank)
        right, left = (members[(at + step) % len(members)] for step in (1, -1))
        got = torch.zeros(5)
        send = dist.isend(torch.full((5,), float(self.rank)), right, group=group)
        receive = dist.irecv(got, left, group=group)
        result = act()
        receive.wait()
        send.wait()
        if not (got == left).all():
            raise Wrong(f"the program's message: {got}, want {left}")
        return result

    def shape(self):
        return (self.random.randint(1, 2), self.random.choice(
            (0, 1, 2, 5, 17, 40, self.random.randint(1, 70))))

    # The operations.

    def attention(self, group, members):
        import ringweave
        ranks, me = len(members), members.index(self.rank)
        batch, tokens = self.shape()
        kv_heads = self.random.randint(1, 3)
        heads, dim = kv_heads * self.random.randint(1, 2), self.random.choice(
            (1, 4, 8))
        dtype = self.random.choice(list(TOLERANCE))
        layout = self.layout(ranks, tokens, runs_only=False)
        mask, truth = self.mask(tokens, linear=False)
        strategies = ["ring", "ring_reverse", "multi_ring", "direct",
                      "direct:2", "all_gather"]
        if ranks == 4:
            strategies += ["paths:nodes=2", "hierarchical:nodes=2",
                           "double_ring:nodes=2"]
        strategy = self.random.choice(strategies)
        scale = self.random.choice((None, 0.3, -0.7, 0.0))
        self.say(f"attention over {members}: {batch} {tokens} {heads} "
                 f"{kv_heads} {dim} {dtype} {layout} {mask} {strategy} {scale}")
        whole = [self.tensor(batch, tokens, h, dim).to(dtype).double()
                 for h in (heads, kv_heads, kv_heads)]
        weight = self.tensor(batch, tokens, heads, dim)

        def mine(x):
            return ringweave.shard(x, layout, group=group)

        def call(q, k, v):
            return (ringweave.attention(
                q, k, v, layout=layout, group=group, mask=mask, scale=scale,
                strategy=strategy),)

        (out,), gradients = self.beside_messages(
            group, members, lambda: self.differentiate(
                call, [mine(x).to(dtype) for x in whole], [mine(weight)], dtype,
                group))
        leaves = [x.clone().requires_grad_() for x in whole]
        want = dense_softmax(*leaves, truth,
                             dim ** -0.5 if scale is None else scale)
        self.compare("out", out, mine(want), dtype)
        if gradients:
            (want * weight).sum().backward()
            for name, got, leaf in zip("qkv", gradients, leaves):
                self.compare(f"gradient of {name}", got, mine(leaf.grad), dtype)

    def linear(self, group, members):
        import ringweave
        ranks, me = len(members), members.index(self.rank)
        batch, tokens = self.shape()
        states = self.random.randint(1, 3)
        heads = states * self.random.randint(1, 2)
        key_dim, value_dim = (self.random.choice((1, 4, 8)) for _ in range(2))
        dtype = self.random.choice(list(TOLERANCE))
        full = torch.float64 if dtype == torch.float64 else torch.float32
        decay = self.random.choice(("none", "constant", "per_head", "per_key"))
        layout = self.layout(ranks, tokens, runs_only=True)
        mask, truth = self.mask(tokens, linear=True, gated=decay != "none")
        exchange = self.random.choice(
            ("chain", "pipelined_chain:3", "sharded_scan", "log_step", "all_gather",
             "all_gather:ring"))
        scale = self.random.choice((1.0, 0.3, -0.7, 0.0))
        wants_state = self.random.random() < 0.5
        self.say(f"linear over {members}: {batch} {tokens} {heads} {states} "
                 f"{key_dim} {value_dim} {dtype} {decay} {layout} {mask} "
                 f"{exchange} {scale} {wants_state}")
        whole = [self.tensor(batch, tokens, h, d).to(dtype).double()
                 for h, d in ((heads, key_dim), (states, key_dim),
                              (states, value_dim))]
        weight = self.tensor(batch, tokens, heads, value_dim)
        strength = self.random.choice((1e-4, 1.0, 30.0))
        gates = {"none": lambda: None,
                 "constant": lambda: self.tensor(states),
                 "per_head": lambda: self.tensor(batch, tokens, states),
                 "per_key": lambda: self.tensor(batch, tokens, states, key_dim),
                 }[decay]()
        if gates is not None:
            gates = (-gates.abs() * strength).to(full).double()
        initial = None
        if self.random.random() < 0.5:
            initial = self.tensor(batch, states, key_dim,
                                  value_dim).to(full).double()
        state_weight = self.tensor(batch, states, key_dim, value_dim)

        def mine(x):
            return ringweave.shard(x, layout, group=group)

        def call(q, k, v, gates, initial):
            result = ringweave.linear_attention(
                q, k, v, layout=layout, group=group, mask=mask, gates=gates,
                scale=scale, initial_state=initial, final_state=wants_state,
                exchange=exchange)
            return result if wants_state else (result,)

        local = [mine(x).to(dtype) for x in whole]
        local.append(gates if gates is None or decay == "constant"
                     else mine(gates))
        local.append(initial)
        local[3:] = [x if x is None else x.to(full) for x in local[3:]]
        weights = [mine(weight)] + [state_weight * (me == 0)] * wants_state
        results, gradients = self.beside_messages(
            group, members, lambda: self.differentiate(call, local, weights,
                                                       dtype, group))
        leaves = [x if x is None else x.clone().requires_grad_()
                  for x in (*whole, gates, initial)]
        want = dense_linear(*leaves, truth, scale)
        self.compare("out", results[0], mine(want[0]), dtype)
        if wants_state:
            self.compare("final state", results[1], want[1], dtype)
        if not gradients:
            return
        loss = (want[0] * weight).sum()
        if wants_state:
            loss = loss + (want[1] * state_weight).sum()
        if loss.requires_grad:
            loss.backward()
        for name, got, leaf in zip(("q", "k", "v", "gates", "initial state"),
                                   gradients, leaves):
            if leaf is None:
                continue
            if got is None:
                got = torch.zeros_like(leaf)
            wanted = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            if name == "initial state" or (name == "gates" and
                                           decay == "constant"):
                got = got.double()
                dist.all_reduce(got, group=group)
            else:
                wanted = mine(wanted)
            self.compare(f"gradient of {name}", got, wanted, dtype)

    def unshard(self, group, members):
        import ringweave
        ranks, me = len(members), members.index(self.rank)
        batch, tokens = self.shape()
        dtype = self.random.choice(list(TOLERANCE))
        dim = self.random.choice((0, 1, -1))
        layout = self.layout(ranks, tokens, runs_only=False)
        self.say(f"unshard over {members}: {batch} {tokens} {dtype} {dim} "
                 f"{layout}")
        shape = [batch, 3, 2]
        shape[dim] = tokens
        whole = self.tensor(*shape).to(dtype)
        part = ringweave.shard(whole, layout, group=group,
                               dim=dim).clone().requires_grad_()
        got = self.beside_messages(
            group, members,
            lambda: ringweave.unshard(part, layout, group=group, dim=dim))
        if not torch.equal(got, whole):
            raise Wrong("unshard")
        weight = self.tensor(*shape)
        (got.double() * weight * (me + 1)).sum().backward()
        total = ranks * (ranks + 1) / 2
        self.compare("gradient of the shard", part.grad,
                     ringweave.shard(weight * total, layout, group=group,
                                     dim=dim), dtype)

    def refusal(self, group, members):
        """A call that some ranks can't make: one error on all, then go on."""
        import ringweave
        ranks = len(members)
        tokens = 7
        layout = ringweave.layout("contiguous", tokens, ranks)
        parts = [ringweave.shard(torch.ones(1, tokens, 1, 4), layout,
                                 group=group) for _ in range(3)]
        refusing = self.random.sample(members,
                                      self.random.randint(1, len(members)))
        kind = self.random.choice(("shape", "type", "mask", "none", "dim"))
        self.say(f"refusal over {members} on {refusing}: {kind}")
        arguments = {"layout": layout, "group": group}
        if self.rank in refusing:
            if kind == "shape":
                parts[0] = torch.cat([parts[0], torch.ones(1, 1, 1, 4)], 1)
            elif kind == "type":
                parts[0] = parts[0].int()
            elif kind == "mask":
                arguments["mask"] = "casual"
            elif kind == "none":
                parts[1] = None
            else:
                parts = [x[0] for x in parts]
        operation = self.random.choice((ringweave.attention,
                                        ringweave.linear_attention))
        try:
            operation(*parts, **arguments)
            text = ""
        except Exception as error:
            text = str(error).splitlines()[0]
        texts = [None] * ranks
        dist.all_gather_object(texts, text, group=group)
        if "" in texts:
            raise Wrong(f"a refusal without an error: {texts}")
        same = len(set(texts)) == 1
        if not same and len(refusing) < ranks:
            raise Wrong(f"errors that differ: {texts}")


def run_programs(group, seeds):
    """(seed, what went wrong, what the program did) of the first that did."""
    torch.distributed.distributed_c10d._set_pg_timeout(
        datetime.timedelta(seconds=20), dist.group.WORLD)
    for seed in seeds:
        program = Program(seed)
        try:
            program.run()
        except Exception as error:
            return seed, f"{type(error).__name__}: {error}", program.log
    return None


class Fuzz(unittest.TestCase):
    def test_random_programs(self):
        for ranks in RANKS:
            seeds = [*FOUND.get(ranks, ()),
                     *(seed for seed in range(BEGIN, END)
                       if seed % len(RANKS) == RANKS.index(ranks))]
            with self.subTest(ranks=ranks):
                outcomes = harness.run_ranks(run_programs, ranks, seeds=seeds,
                                             seconds=120 + 2 * len(seeds))
                for rank, outcome in enumerate(outcomes):
                    self.assertTrue(outcome.ended, f"rank {rank} hangs or died")
                    self.assertIsNone(outcome.text, f"rank {rank}")
                    self.assertIsNone(outcome.value, f"rank {rank}")


if __name__ == "__main__":
    unittest.main()
