"""The operations under torch.compile: whole graphs, few of them, equal bits."""

import itertools
import unittest

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import harness

WIDTH, HEADS = 16, 2
LENGTHS = (64, 96, 130)


def graphs(backend="aot_eager"):
    """A backend that counts the graphs it is given."""
    from torch._dynamo.testing import CompileCounterWithBackend
    torch._dynamo.reset()
    return CompileCounterWithBackend(backend)


class Block(nn.Module):
    """Attention of both kinds, one after the other."""

    def __init__(self, group=None):
        super().__init__()
        self.group = group
        self.qkv = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(2))
        self.gate = nn.Linear(WIDTH, HEADS)

    def forward(self, x, layout, documents):
        import ringweave
        mask = {"kind": "causal", "document_offsets": documents}
        q, k, v = self.heads(0, x)
        x = x + ringweave.attention(q, k, v, layout=layout, mask=mask,
                                    group=self.group).flatten(2)
        q, k, v = self.heads(1, x)
        return x + ringweave.linear_attention(
            q, k, v, layout=layout, mask=mask, group=self.group,
            gates=F.logsigmoid(self.gate(x))).flatten(2)

    def heads(self, index, x):
        return self.qkv[index](x).unflatten(-1, (3, HEADS, -1)).unbind(2)


class Model(nn.Module):
    def __init__(self, recompute, group=None):
        super().__init__()
        self.recompute = recompute
        self.blocks = nn.ModuleList([Block(group)])

    def forward(self, x, layout, documents):
        for block in self.blocks:
            x = (checkpoint(block, x, layout, documents, use_reentrant=False)
                 if self.recompute else block(x, layout, documents))
        return x


def model_of(recompute=False, group=None):
    torch.manual_seed(0)
    return Model(recompute, group)


def results(model, tokens, documents, call=None):
    """The output of this rank's tokens and all gradients."""
    import ringweave
    layout = ringweave.layout("zigzag", tokens, dist.get_world_size())
    generator = torch.Generator().manual_seed(tokens)
    x = torch.randn(1, tokens, WIDTH, generator=generator)
    x = ringweave.shard(x, layout).requires_grad_()
    model.zero_grad()
    out = (model if call is None else call)(x, layout, torch.tensor(documents))
    out.sin().sum().backward()
    return [out.detach(), x.grad, *(each.grad for each in model.parameters())]


def offsets(tokens, documents):
    """Of so many, or a few less."""
    return sorted({0, tokens, *(37 * i % tokens for i in range(1, documents))})


def counts(group, cases):
    """Of each (dynamic, recompute): graphs for three lengths, and then for ten
    patterns of documents; whether all bits are those of the plain model."""
    return [count(*case) for case in cases]


def count(dynamic, recompute):
    model, backend = model_of(recompute), graphs()
    fast = torch.compile(model, fullgraph=True, backend=backend,
                         dynamic=dynamic)
    found, same = [], []
    for cases in ([(tokens, 2 + i) for i, tokens in enumerate(LENGTHS)],
                  [(LENGTHS[-1], documents) for documents in range(1, 11)]):
        for tokens, documents in cases:
            cuts = offsets(tokens, documents)
            same.append(all(map(torch.equal, results(model, tokens, cuts),
                                results(model, tokens, cuts, fast))))
        found.append(backend.frame_count)
    return found, same


def inductor(group):
    """Largest difference, under checkpointing: what surrounds the operations is
    equal to rounding."""
    model = model_of(recompute=True)
    fast = torch.compile(model, fullgraph=True)
    want, got = (results(model, 96, [0, 40, 96], each) for each in (None, fast))
    return max(((a - b).abs().max() / b.abs().max()).item()
               for a, b in zip(got, want))


def parallel(group):
    return {how: under(how) for how in ("ddp", "fsdp")}


def under(how):
    """Largest difference from the sum over ranks that the plain model's
    gradients have."""
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel
    model = model_of()
    wanted = results(model, 96, [0, 40, 96])[2:]
    for each in wanted:
        dist.all_reduce(each)
    ranks = dist.get_world_size()
    mesh = dist.device_mesh.init_device_mesh("cpu", (ranks,))
    graphs()
    other = model_of(recompute=True, group=mesh)
    for block in other.blocks:
        block.compile(fullgraph=True, backend="aot_eager")
        if how == "fsdp":
            fully_shard(block, mesh=mesh)
    wrapped = (fully_shard(other, mesh=mesh) if how == "fsdp" else
               DistributedDataParallel(other))
    got = results(wrapped, 96, [0, 40, 96])[2:]
    got = [each.full_tensor() if how == "fsdp" else each for each in got]
    return max((a * ranks - b).abs().max().item() for a, b in zip(got, wanted))


def shards(group):
    """Graphs for three lengths of shard, positions and unshard, with a layout
    that is made there, too."""
    import ringweave
    ranks = dist.get_world_size()

    def around(whole):
        layout = ringweave.layout("zigzag", whole.shape[1], ranks)
        part = ringweave.shard(whole, layout)
        part = part * ringweave.positions(layout)[:, None].to(part.dtype)
        return ringweave.unshard(part, layout)

    backend, same = graphs(), []
    fast = torch.compile(around, fullgraph=True, backend=backend)
    for tokens in LENGTHS:
        gradients = []
        for call in (around, fast):
            whole = torch.ones(2, tokens, 3).cumsum(1).requires_grad_()
            out = call(whole)
            out.square().sum().backward()
            gradients += [out.detach(), whole.grad]
        same += map(torch.equal, gradients[:2], gradients[2:])
    return backend.frame_count, all(same)


def kinds(group):
    """Of layouts, masks and groups: graphs that were made, and whether the bits
    are equal."""
    import ringweave
    ranks, tokens = dist.get_world_size(), 20
    cuts = ([[[0, cut, 1]], [[cut, tokens - cut, 1]]] for cut in (4, 7))
    layouts = [*(ringweave.layout(kind, tokens, ranks)
                 for kind in ("contiguous", "zigzag", "striped")),
               *(ringweave.layout({"kind": "explicit", "tokens": tokens,
                                   "runs": runs}) for runs in cuts)]
    zigzag = layouts[1]
    mesh = dist.device_mesh.init_device_mesh("cpu", (ranks,))
    fresh = dist.new_group()  # opened in a compiled call
    cases = {
        "layouts": [(layout, "causal", None) for layout in layouts * 2],
        "masks": [(zigzag, mask, None) for mask in (
            "full", {"kind": "causal", "window": {"left": 3}},
            {"kind": "full", "window": {"left": 5, "right": 2}})],
        "groups": [(zigzag, "causal", over) for over in (
            None, dist.group.WORLD.group_name, dist.group.WORLD, mesh, fresh)]}

    def call(parts, layout, mask, over):
        return ringweave.attention(*parts, layout=layout, mask=mask, group=over)

    found, same = {}, []
    for name, arguments in cases.items():
        backend = graphs()
        fast = torch.compile(call, fullgraph=True, backend=backend)
        for layout, mask, over in arguments:
            generator = torch.Generator().manual_seed(0)
            parts = [ringweave.shard(torch.randn(1, tokens, HEADS, 4,
                                                 generator=generator), layout)
                     for _ in range(3)]
            same.append(torch.equal(fast(parts, layout, mask, over),
                                    call(parts, layout, mask, over)))
        found[name] = backend.frame_count
    # Texts and dicts break a graph that need not be whole.
    text = f'{{"kind": "zigzag", "tokens": {tokens}, "ranks": {ranks}}}'
    parts = [ringweave.shard(torch.ones(1, tokens, HEADS, 4), zigzag)] * 3
    same.append(torch.equal(
        torch.compile(call, backend="aot_eager")(parts, text, "causal", None),
        call(parts, zigzag, "causal", None)))
    return found, len(set(layouts)), same


def refusals(group):
    """What each rank says; calls that one alone makes otherwise end on all."""
    import ringweave
    import torch._functorch.config
    from torch.distributed.tensor import DTensor, Shard
    ranks, odd = dist.get_world_size(), dist.get_rank() == 0
    layout = ringweave.layout("zigzag", 24, ranks)
    size = len(ringweave.positions(layout))

    @torch.compile(fullgraph=True, backend="aot_eager")
    def soft(q, k, v, layout, scale=None):
        return ringweave.attention(q, k, v, layout=layout, scale=scale)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def linear(q, k, v, layout, mask="causal"):
        return ringweave.linear_attention(q, k, v, layout=layout, mask=mask)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def gathered(part, layout):
        return ringweave.unshard(part, layout)

    def parts(tokens=size, heads=HEADS, **options):
        return [torch.ones(1, tokens, each, 4, **options).requires_grad_()
                for each in (heads, HEADS, HEADS)]

    @torch._functorch.config.patch(donated_buffer=False)
    def twice(call):
        """Backward twice, whose gradients add up."""
        torch._dynamo.reset()
        inputs = parts()
        out = call(*inputs, layout).sum()
        out.backward(retain_graph=True)
        once = inputs[2].grad.clone()
        out.backward()
        torch.testing.assert_close(inputs[2].grad, 2 * once)

    mesh = dist.device_mesh.init_device_mesh("cpu", (ranks,))
    distributed = DTensor.from_local(torch.ones(1, size, HEADS, 4), mesh,
                                     [Shard(1)])
    eager = parts()
    loss = ringweave.attention(*eager, layout=layout).sum()
    linear_loss = ringweave.linear_attention(*eager, layout=layout).sum()
    whole_loss = ringweave.unshard(eager[0], layout).sum()
    return harness.said({
        "shape": lambda: soft(*parts(size + odd), layout),
        "heads": lambda: soft(*parts(heads=HEADS + odd), layout),
        "type": lambda: linear(*parts(dtype=torch.complex64 if odd else
                                      torch.float32), layout),
        "other layout": lambda: soft(*parts(), ringweave.layout(
            "contiguous" if odd else "zigzag", 24, ranks)),
        "other mask": lambda: linear(*parts(), layout,
                                     "full" if odd else "causal"),
        "whole": lambda: gathered(torch.ones(1, size + odd), layout),
        "DTensor": lambda: soft(distributed, *parts()[1:], layout),
        "learnable scale": lambda: soft(
            *parts(), layout, torch.ones((), requires_grad=True)),
        "text": lambda: soft(*parts(), '{"kind": "zigzag", "tokens": 24, '
                             f'"ranks": {ranks}}}'),
        "second derivative": lambda: torch.autograd.grad(
            loss, eager, create_graph=True),
        "second derivative, linear": lambda: torch.autograd.grad(
            linear_loss, eager, create_graph=True),
        "second derivative, unshard": lambda: torch.autograd.grad(
            whole_loss, eager[0], create_graph=True),
        "after all": lambda: twice(soft),
        "and linear": lambda: twice(linear),
    })


def checks(group):
    """torch.library.opcheck on the operators, on one rank."""
    import ringweave
    ringweave.layout  # loads them
    ops = torch.ops.ringweave
    generator = torch.Generator().manual_seed(0)

    def make(*shape):
        return torch.randn(*shape, generator=generator,
                           dtype=torch.float64).requires_grad_()

    q, k, v = make(2, 16, 4, 8), make(2, 16, 2, 8), make(2, 16, 2, 8)
    state, documents = make(2, 2, 8, 8), torch.tensor([0, 5, 16])
    where, mask = ("0", "zigzag", 16, 1), ("causal", None, None)
    inputs = [x.detach() for x in (q, k, v)]
    wrong = []

    def check(operator, *arguments):
        try:
            torch.library.opcheck(operator.default, arguments)
        except Exception as error:
            wrong.append(f"{operator}: {error}")

    for offsets_ in (None, documents):
        rest = (offsets_, *where, *mask, None, "multi_ring", None)
        check(ops.attention_forward, q, k, v, *rest)
        saved = ops.attention_forward(*inputs, *rest, True)
        check(ops.attention_backward, torch.ones_like(saved[0]), *inputs,
              *saved, *rest)
    rest = (documents, *where, *mask, 0.5, "all_gather", None, True)
    for gates in (None, make(2), make(2, 16, 2), make(2, 16, 2, 8)):
        if gates is not None:
            gates = -gates.detach().abs()
            gates.requires_grad_()
        check(ops.linear_attention_forward, q, k, v, gates, state, *rest)
        gates = None if gates is None else gates.detach()
        saved = ops.linear_attention_forward(*inputs, gates, state.detach(),
                                             *rest, True)
        check(ops.linear_attention_backward, torch.ones_like(saved[0]),
              torch.ones_like(saved[1]), *inputs, gates, state.detach(),
              *saved[2:], *rest, gates is not None, True)
    check(ops.unshard_forward, q, *where, 1)
    whole, call = ops.unshard_forward(inputs[0], *where, 1, True)
    check(ops.unshard_backward, whole, call, *where, 1, 16)
    return wrong


class Compile(unittest.TestCase):
    def run_well(self, function, ranks, **arguments):
        return harness.run_well(self, function, ranks, seconds=120, **arguments)

    def test_few_graphs_and_equal_bits(self):
        everything = list(itertools.product((None, True), (False, True)))
        for ranks, cases in ((2, everything), (1, [(None, True)])):
            for results in self.run_well(counts, ranks, cases=cases):
                for case, ((lengths, patterns), same) in zip(cases, results):
                    with self.subTest(ranks=ranks, case=case):
                        dynamic, _ = case
                        self.assertEqual(lengths, 1 if dynamic else 2)
                        self.assertEqual(patterns, lengths)
                        self.assertTrue(all(same), same)

    def test_inductor(self):
        for largest in self.run_well(inductor, 2):
            self.assertLess(largest, 1e-5)

    def test_data_parallel(self):
        for largest in self.run_well(parallel, 2):
            for how, difference in largest.items():
                self.assertLess(difference, 1e-5, how)

    def test_shards(self):
        for found, same in self.run_well(shards, 2):
            self.assertLessEqual(found, 2)
            self.assertTrue(same)

    def test_kinds_of_arguments(self):
        for found, layouts, same in self.run_well(kinds, 2):
            self.assertTrue(all(same), same)
            self.assertEqual(found["layouts"], layouts)  # once for each

    def test_refusals(self):
        refused = "refused on rank 0: "
        harness.check_said(self, refusals, 2, {
            "shape": f"{refused}[attention] got q of 13 tokens; want 12",
            "heads": f"{refused}[attention] got 3 heads",
            "type": f"{refused}[linear_attention] got q of type ComplexFloat",
            "other layout": 'got layout of queries "{"kind":"zigzag"',
            "other mask": 'got mask "{"kind":"causal"}" on rank 1',
            "whole": f"{refused}[unshard] got 13 tokens on rank 0; want 12",
            "DTensor": "q.to_local()",
            "learnable scale": "no gradient of scale",
            "text": "make it by ringweave.layout()",
            "second derivative": "[attention] got a backward with create_graph",
            "second derivative, linear":
                "[linear_attention] got a backward with create_graph",
            "second derivative, unshard":
                "[unshard] got a backward with create_graph",
            "after all": "no error",
            "and linear": "no error"}, seconds=120)

    def test_opcheck(self):
        for wrong in self.run_well(checks, 1):
            self.assertEqual(wrong, [])


if __name__ == "__main__":
    unittest.main()
