"""The operations as programs use them: gradients through shard and unshard,
checkpointing, arguments of many kinds."""

import unittest

import numpy
import torch
import torch.distributed as dist
from torch.utils.checkpoint import checkpoint

import harness

TOKENS = 29


def layout_of(kind="zigzag", tokens=TOKENS):
    import ringweave
    return ringweave.layout(kind, tokens, dist.get_world_size())


def inputs(heads=2, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, TOKENS, heads, 8, generator=generator, dtype=dtype)
            for _ in range(3)]


def errors_of(*calls):
    return list(harness.said(dict(enumerate(calls))).values())


def shard_lengths(group):
    import ringweave
    layout = layout_of()
    return errors_of(
        lambda: ringweave.shard(torch.zeros(1, TOKENS + 1, 2), layout),
        lambda: ringweave.shard(torch.zeros(1, TOKENS - 1, 2), layout),
        lambda: ringweave.shard(torch.zeros(1, 2, TOKENS, 8), layout),
        lambda: ringweave.shard(torch.zeros(1), layout),
        lambda: ringweave.shard(torch.zeros(1, TOKENS), layout, dim=2))


def unshard_gradient(group):
    """Largest difference from the truth of a weight before and after it."""
    import ringweave
    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    inner = torch.nn.Linear(8, 8, dtype=torch.float64)
    head = torch.nn.Linear(8, 1, dtype=torch.float64)
    x = inputs()[0]
    errors = []
    for kind in ("zigzag", "striped", "contiguous"):
        layout = layout_of(kind)
        for module in (inner, head):
            module.zero_grad()
        whole = ringweave.unshard(inner(ringweave.shard(x, layout)), layout)
        (head(whole).square().mean() / size).backward()
        dist.all_reduce(inner.weight.grad)
        dist.all_reduce(head.weight.grad)
        got = [inner.weight.grad.clone(), head.weight.grad.clone()]
        for module in (inner, head):
            module.zero_grad()
        head(inner(x)).square().mean().backward()
        errors += [(a - b.weight.grad).abs().max().item()
                   for a, b in zip(got, (inner, head))]
    labels = torch.arange(TOKENS)[None]
    same = torch.equal(ringweave.unshard(ringweave.shard(labels, layout),
                                         layout), labels)
    return max(errors), same


def block_of(operation, weight, layout):
    def block(x):
        q, k, v = weight(x).unflatten(-1, (3, 2, 4)).unbind(2)
        return x + operation(q, k, v, layout=layout).flatten(-2)
    return block


def checkpointed(group):
    """Whether checkpointing leaves all bits as they are."""
    import ringweave
    layout = layout_of()
    torch.manual_seed(dist.get_rank())
    x = torch.randn(1, ringweave.positions(layout).numel(), 8)
    same = []
    for operation in (ringweave.attention, ringweave.linear_attention):
        weight = torch.nn.Linear(8, 24)
        block = block_of(operation, weight, layout)
        bits = []
        for run in (lambda leaf: block(leaf),
                    lambda leaf: checkpoint(block, leaf, use_reentrant=True),
                    lambda leaf: checkpoint(block, leaf, use_reentrant=False)):
            weight.zero_grad()
            leaf = x.clone().requires_grad_()
            run(leaf).sin().sum().backward()
            bits.append((leaf.grad, weight.weight.grad.clone()))
        same += [torch.equal(a, b) for other in bits[1:]
                 for a, b in zip(bits[0], other)]
    return same


def kinds_of_arguments(group):
    import ringweave
    from torch.distributed.tensor import DTensor, Shard
    layout = layout_of()
    parts = [ringweave.shard(x, layout) for x in inputs()]
    offsets = [0, 7, 20, TOKENS]
    outs = [ringweave.attention(*parts, layout=layout, mask={
        "kind": "causal", "document_offsets": each})
        for each in (offsets, torch.tensor(offsets), numpy.array(offsets),
                     torch.tensor(offsets, dtype=torch.int32))]
    mesh = dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
    distributed = DTensor.from_local(parts[0], mesh, [Shard(1)])
    return all(torch.equal(outs[0], out) for out in outs), errors_of(
        lambda: ringweave.attention(distributed, *parts[1:], layout=layout),
        lambda: ringweave.attention(
            *parts, layout=layout, scale=torch.ones((), requires_grad=True)),
        lambda: ringweave.attention(*parts, layout=layout, mask={
            "kind": "causal", "document_offsets": {1, 2}}),
        lambda: ringweave.attention(*parts, layout=layout, scale="big"),
        lambda: ringweave.attention(*parts, layout=layout,
                                    scale=float("nan")),
        lambda: ringweave.linear_attention(*parts, layout=layout,
                                           scale=float("inf")),
        lambda: ringweave.unshard([1], layout))


def scales(group):
    """Of softmax attention with scales that are not positive."""
    import ringweave
    errors = []
    for kind in ("causal", "full"):
        for scale in (-1.0, 0.0, -1e-3):
            layout = layout_of()
            leaves = [x.requires_grad_() for x in inputs(seed=3)]
            scores = torch.einsum("bqhd,bkhd->bhqk", *leaves[:2]) * scale
            if kind == "causal":
                later = torch.ones(TOKENS, TOKENS).triu(1).bool()
                scores = scores.masked_fill(later, -torch.inf)
            want = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1),
                                leaves[2])
            weight = inputs(seed=4)[0]
            gradients = torch.autograd.grad((want * weight).sum(), leaves)
            parts = [ringweave.shard(x.detach(), layout).requires_grad_()
                     for x in leaves]
            out = ringweave.attention(*parts, layout=layout, mask=kind,
                                      scale=scale)
            out.backward(ringweave.shard(weight, layout))
            for got, whole in zip((out, *(part.grad for part in parts)),
                                  (want, *gradients)):
                errors.append((got - ringweave.shard(whole, layout))
                              .abs().max().item())
    return max(errors, key=lambda error: (error != error, error))


class Operations(unittest.TestCase):
    def run_well(self, function, ranks, **arguments):
        return harness.run_well(self, function, ranks,
                                seconds=120, **arguments)

    def test_shard_wants_the_layouts_tokens(self):
        for texts in self.run_well(shard_lengths, 2):
            for text in texts:
                self.assertIn("[shard] got a tensor of shape", text)
                self.assertIn(f"want {TOKENS} of them", text)
            self.assertIn(str(TOKENS + 1), texts[0])

    def test_unshard_has_a_gradient(self):
        for ranks in (1, 2, 3):
            for largest, same in self.run_well(unshard_gradient, ranks):
                self.assertLess(largest, 1e-12)
                self.assertTrue(same)

    def test_checkpointing_changes_no_bit(self):
        for ranks in (1, 3):
            for same in self.run_well(checkpointed, ranks):
                self.assertEqual(same, [True] * 8)

    def test_kinds_of_arguments(self):
        for same, texts in self.run_well(kinds_of_arguments, 2):
            self.assertTrue(same)
            for text, words in zip(texts, (
                    "q.to_local()", "no gradient of scale",
                    "want numbers, lists", "scale", "scale", "scale",
                    "Tensor")):
                self.assertIn(words, text)

    def test_scales_that_are_not_positive(self):
        for ranks in (1, 3):
            for largest in self.run_well(scales, ranks):
                self.assertLess(largest, 1e-10)


if __name__ == "__main__":
    unittest.main()
