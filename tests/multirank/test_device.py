"""The operations on tensors of an accelerator, which is the simulated one."""

import os
import types
import unittest

import torch
import torch.distributed as dist

import harness

TOKENS = 29
MASK = {"kind": "causal", "document_offsets": [0, 10, TOKENS]}


def use_sim():
    """Makes the device known to torch, here."""
    torch.ops.load_library(os.environ["RINGWEAVE_SIM_LIBRARY"])
    torch._register_device_module("sim", types.ModuleType("sim"))


def layout_of():
    import ringweave
    return ringweave.layout("zigzag", TOKENS, dist.get_world_size())


def inputs(device, dtype=torch.float64):
    import ringweave
    generator = torch.Generator().manual_seed(1)
    whole = [torch.randn(2, TOKENS, heads, 8, generator=generator,
                         dtype=torch.float64) for heads in (4, 2, 2)]
    return [ringweave.shard(x, layout_of()).to(dtype).to(device).requires_grad_()
            for x in whole]


def attention(q, k, v):
    import ringweave
    return ringweave.attention(q, k, v, layout=layout_of(), mask=MASK)


def linear_attention(q, k, v):
    import ringweave
    sums = torch.float64 if q.dtype == torch.float64 else torch.float32
    gates = -q.detach()[:, :, :2, 0].abs().to(sums)
    state = torch.ones(2, 2, 8, 8, dtype=sums).to(q.device)
    out, final = ringweave.linear_attention(
        q, k, v, layout=layout_of(), mask=MASK, gates=gates, initial_state=state,
        final_state=True)
    return torch.cat([out.flatten(), final.flatten()])


def results(operation, device, dtype):
    """Outputs and gradients, in the host's memory, and where they were."""
    leaves = inputs(device, dtype=dtype)
    out = operation(*leaves)
    weights = torch.arange(out.numel(), dtype=torch.float64).sin().view(out.shape)
    (out * weights.to(out.dtype).to(device)).sum().backward()
    all = [out.detach(), *(leaf.grad for leaf in leaves)]
    return [x.cpu() for x in all], {str(x.device) for x in all}


def on_a_device(group):
    use_sim()
    found = {}
    for operation in (attention, linear_attention):
        for dtype in (torch.float64, torch.float16):
            want, _ = results(operation, "cpu", dtype)
            got, places = results(operation, "sim:1", dtype)
            found[operation.__name__, dtype] = places, max(
                float((a - b).abs().max() / b.abs().max())
                for a, b in zip(got, want))
    return found, torch.ops.ringweave_sim.reports()


def between_processes(group):
    use_sim()
    return harness.said({operation.__name__: lambda operation=operation: operation(
        *inputs("sim:0")) for operation in (attention, linear_attention)})


class Device(unittest.TestCase):
    def test_one_rank(self):
        outcome, = harness.run_ranks(on_a_device, 1)
        found, reports = outcome.value
        self.assertEqual(reports, [])
        self.assertEqual(len(found), 4)
        for (operation, dtype), (places, error) in found.items():
            self.assertEqual(places, {"sim:1"}, operation)
            self.assertLessEqual(error, 1e-10 if dtype == torch.float64 else 5e-3,
                                 (operation, dtype))

    def test_keys_of_several_processes_are_refused(self):
        harness.check_said(self, between_processes, 2, {
            "attention": "[attention] got q on sim:0; want cpu: keys of several ranks",
            "linear_attention":
                "[linear_attention] got q on sim:0; want cpu: states of several ranks"})


if __name__ == "__main__":
    unittest.main()
