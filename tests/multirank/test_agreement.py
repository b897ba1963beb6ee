"""Ranks whose calls differ, or are refused: one error on every rank, at once,
and the group goes on."""

import contextlib
import datetime
import time
import unittest

import torch
import torch.distributed as dist

import harness

TOKENS = 29
SECONDS = 2  # between the last rank's call and the error


def make(batch=2, tokens=TOKENS, heads=4, kv_heads=2, head_dim=8, value_dim=8,
         dtype=torch.float32, layout="zigzag", requires_grad=True, seed=0):
    """A layout, and q, k and v of this rank."""
    import ringweave
    layout = ringweave.layout(layout, tokens, dist.get_world_size())
    generator = torch.Generator().manual_seed(seed)
    whole = [torch.randn(batch, tokens, h, d, generator=generator,
                         dtype=torch.float64)
             for h, d in ((heads, head_dim), (kv_heads, head_dim),
                          (kv_heads, value_dim))]
    return layout, [ringweave.shard(x, layout).to(dtype)
                    .requires_grad_(requires_grad) for x in whole]


def softmax(arguments={}, **shape):
    import ringweave
    layout, parts = make(**shape)
    return ringweave.attention(*parts, **{"layout": layout, **arguments})


def linear(arguments={}, **shape):
    import ringweave
    layout, parts = make(**shape)
    return ringweave.linear_attention(*parts, **{"layout": layout, **arguments})


def per_head(**shape):
    layout, (q, k, _) = make(**shape)
    return -torch.rand(q.shape[0], q.shape[1], k.shape[2])


def unshard(arguments={}, **shape):
    import ringweave
    layout, parts = make(**shape)
    return ringweave.unshard(parts[0], **{"layout": layout, **arguments})


def explicit(tokens=TOKENS):
    """All tokens on rank 0."""
    runs = [[[0, tokens, 1]]] + [[] for _ in range(dist.get_world_size() - 1)]
    return {"kind": "explicit", "tokens": tokens, "runs": runs}


def on_explicit():
    import ringweave
    layout = explicit()
    parts = [torch.zeros(2, ringweave.positions(layout).numel(), heads, 8,
                         requires_grad=True) for heads in (4, 2, 2)]
    return ringweave.attention(*parts, layout=layout)


def without_grad():
    with torch.no_grad():
        return softmax()


def frozen_but(*places):
    """Only these of q, k and v require a gradient."""
    import ringweave
    layout, parts = make(requires_grad=False)
    for place in places:
        parts[place].requires_grad_()
    return ringweave.attention(*parts, layout=layout)


def on_frozen(name, shape, requires_grad=False):
    """Linear attention where no other input requires a gradient."""
    x = torch.zeros(shape, requires_grad=requires_grad)
    return linear({name: x}, requires_grad=False)


def refused_shape():
    import ringweave
    layout, parts = make()
    return ringweave.attention(torch.cat([parts[0]] * 2, 1), *parts[1:],
                               layout=layout)


def missing_argument():
    import ringweave
    layout, parts = make()
    return ringweave.attention(parts[0], None, parts[2], layout=layout)


def learnable_scale():
    return softmax({"scale": torch.ones((), requires_grad=True)})


def mask(**fields):
    return {"mask": {"kind": "causal", **fields}}


# name: what the odd rank does, what the others do, words of the error
FORWARD = {
    "batch": (lambda: softmax(batch=1), softmax, 'batch "1"'),
    "heads": (lambda: softmax(heads=8), softmax, 'heads "8"'),
    "kv heads": (lambda: softmax(kv_heads=4), softmax, 'kv_heads "4"'),
    "head_dim": (lambda: softmax(head_dim=4, value_dim=4), softmax,
                 'head_dim "4"'),
    "type": (lambda: softmax(dtype=torch.bfloat16), softmax, 'type "BFloat16"'),
    "mask": (lambda: softmax({"mask": "full"}), softmax, "mask"),
    "window": (lambda: softmax(mask(window={"left": 3})), softmax, "mask"),
    "documents": (lambda: softmax(mask(document_offsets=[0, 5, TOKENS])),
                  lambda: softmax(mask(document_offsets=[0, 6, TOKENS])),
                  "document_offsets"),
    "layout": (lambda: softmax(layout="contiguous"), softmax, "contiguous"),
    "tokens": (lambda: softmax(tokens=TOKENS + 1), softmax, str(TOKENS + 1)),
    "explicit layout": (on_explicit, softmax, "explicit"),
    "strategy": (lambda: softmax({"strategy": "ring"}), softmax, "multi_ring"),
    "strands": (lambda: softmax({"strategy": "direct:1"}),
                lambda: softmax({"strategy": "direct:2"}), "strategy"),
    "scale": (lambda: softmax({"scale": 0.5}), softmax, 'scale "0.5"'),
    "requires a gradient": (lambda: softmax(requires_grad=False), softmax,
                            'requires a gradient "no"'),
    "no_grad": (without_grad, softmax, 'requires a gradient "no"'),
    "only k requires a gradient": (lambda: frozen_but(1), frozen_but,
                                   'requires a gradient "yes"'),
    "only v requires a gradient": (lambda: frozen_but(2), frozen_but,
                                   'requires a gradient "yes"'),
    "linear requires a gradient": (lambda: linear(requires_grad=False), linear,
                                   'requires a gradient "no"'),
    "gates require a gradient": (
        lambda: on_frozen("gates", 2, True), lambda: on_frozen("gates", 2),
        'requires a gradient "yes"'),
    "initial state requires a gradient": (
        lambda: on_frozen("initial_state", (2, 2, 8, 8), True),
        lambda: on_frozen("initial_state", (2, 2, 8, 8)),
        'requires a gradient "yes"'),
    "unshard requires a gradient": (lambda: unshard(requires_grad=False),
                                    unshard, 'requires a gradient "no"'),
    "operation": (linear, softmax, 'operation "linear_attention"'),
    "unshard beside attention": (unshard, softmax, 'operation "unshard"'),
    "too many tokens": (refused_shape, softmax, "refused on rank"),
    "no k": (missing_argument, softmax, "refused on rank"),
    "unknown mask": (lambda: softmax({"mask": "casual"}), softmax, '"causal"'),
    "unknown strategy": (lambda: softmax({"strategy": "rong"}), softmax, "rong"),
    "absent plan": (lambda: softmax({"plan": "absent.json"}), softmax,
                    "absent.json"),
    "plan and strategy": (lambda: softmax({"plan": "p", "strategy": "ring"}),
                          softmax, "want one of them"),
    "learnable scale": (learnable_scale, softmax, "no gradient of scale"),
    "not a layout": (lambda: softmax({"layout": object()}), softmax,
                     "want numbers, lists"),
    "key heads": (lambda: linear(kv_heads=4), linear, 'key heads "4"'),
    "query heads": (lambda: linear(heads=8), linear, 'query heads "8"'),
    "value_dim": (lambda: linear(value_dim=4), linear, 'value_dim "4"'),
    "linear type": (lambda: linear(dtype=torch.float64), linear,
                    'type "Double"'),
    "gates": (lambda: linear({"gates": per_head()}), linear,
              'decay "per_head"'),
    "constant decay": (lambda: linear({"gates": torch.full((2,), -0.25)}),
                       lambda: linear({"gates": torch.full((2,), -0.5)}),
                       "gates"),
    "initial state": (lambda: linear({"initial_state": torch.zeros(2, 2, 8, 8)}),
                      linear, "initial_state"),
    "initial state's values": (
        lambda: linear({"initial_state": torch.ones(2, 2, 8, 8)}),
        lambda: linear({"initial_state": torch.zeros(2, 2, 8, 8)}),
        "initial_state"),
    "final state": (lambda: linear({"final_state": True}), linear,
                    'final_state "yes"'),
    "exchange": (lambda: linear({"exchange": "chain"}), linear, "chain"),
    "linear scale": (lambda: linear({"scale": 2.0}), linear, 'scale "2"'),
    "linear mask": (lambda: linear({"mask": "full"}), linear, "mask"),
    "linear gates' shape": (
        lambda: linear({"gates": torch.zeros(2, 1, 1, 1, 1)}), linear,
        "5 dimensions"),
    "gates of 3 heads": (lambda: linear({"gates": -torch.rand(
        per_head().shape[:2] + (3,))}), lambda: linear({"gates": per_head()}),
        "refused on rank"),
    "dim": (lambda: unshard(batch=3), unshard, "shape of the whole"),
    "type of a shard": (lambda: unshard(dtype=torch.float64), unshard,
                        'type "Double"'),
    "unshard of another length": (lambda: unshard(tokens=TOKENS + 1), unshard,
                                  str(TOKENS + 1)),
    "unshard in no dimension": (lambda: unshard({"dim": 7}), unshard, "dim 7"),
    "mode": (lambda: set_agreement("off"), lambda: set_agreement("every"),
             'mode "off"'),
    "unknown mode": (lambda: set_agreement("evry"),
                     lambda: set_agreement("every"), "evry"),
}


def set_agreement(mode):
    import ringweave
    ringweave.set_agreement(mode)


def twice(call, other=None):
    """Backward of the first of two calls, or of the second."""
    first, second = call(), (other or call)()
    return (lambda: first.sum().backward()), (lambda: second.sum().backward())


def changed_in_place():
    import ringweave
    layout, parts = make()
    parts = [part * 1 for part in parts]
    out = ringweave.attention(*parts, layout=layout)
    return out, parts[0]


def backward_cases():
    """name: (what the odd rank does, what the others do, words), made on all
    ranks alike: their forwards are calls, too."""
    first, second = twice(softmax)
    yield "another call's", second, first, "call of its forward"
    of_softmax, of_linear = twice(softmax, linear)
    yield ("another operation's", of_linear, of_softmax,
           'operation "linear_attention backward"')
    out = softmax()
    yield ("forward beside backward", softmax, lambda: out.sum().backward(),
           'operation "attention"')
    second_derivative = softmax()
    yield ("create_graph", lambda: second_derivative.sum().backward(
        create_graph=True), lambda: second_derivative.sum().backward(),
        "second derivatives")
    changed, part = changed_in_place()

    def change():
        part.detach().mul_(2)
        changed.sum().backward()

    yield ("changed in place", change, lambda: changed.sum().backward(),
           "modified by an inplace operation")
    freed = linear()
    freed.sum().backward()
    fresh = linear()
    yield ("freed", lambda: freed.sum().backward(),
           lambda: fresh.sum().backward(), "second time")
    gathered, scattered = twice(unshard)
    yield ("another unshard's", scattered, gathered, "call of its forward")


def right():
    """Whether a call of all ranks gives what one device does."""
    import ringweave
    layout, parts = make(dtype=torch.float64, seed=1)
    out = ringweave.attention(*parts, layout=layout)
    generator = torch.Generator().manual_seed(1)
    whole = [torch.randn(2, TOKENS, heads, 8, generator=generator,
                         dtype=torch.float64).transpose(1, 2)
             for heads in (4, 2, 2)]
    want = torch.nn.functional.scaled_dot_product_attention(
        *whole, is_causal=True, enable_gqa=True).transpose(1, 2)
    out.sum().backward()
    return (out - ringweave.shard(want, layout)).abs().max().item() < 1e-12


def outcome(name, odd, usual):
    """(name, text of the error, seconds, whether the next call is right)."""
    dist.barrier()  # a group of the program's own: ours is in the call
    start, text = time.monotonic(), None
    try:
        (odd if dist.get_rank() == dist.get_world_size() - 1 else usual)()
    except Exception as error:
        text = str(error)
    return name, text, time.monotonic() - start, right()


def disagree(group):
    results = [outcome(name, odd, usual)
               for name, (odd, usual, _) in FORWARD.items()]
    words = {name: words for name, (_, _, words) in FORWARD.items()}
    for name, odd, usual, word in backward_cases():
        results.append(outcome(name, odd, usual))
        words[name] = word
    return results, words


def absent(group, skipped):
    dist.distributed_c10d._set_pg_timeout(datetime.timedelta(seconds=SECONDS),
                                          dist.group.WORLD)
    softmax()
    if dist.get_rank() == 1:
        harness.report("absent")
        time.sleep(3 * SECONDS)  # computing, as far as the others know
        return None
    texts = []
    for _ in range(2):
        try:
            softmax()
        except RuntimeError as error:
            texts.append(str(error))
    return texts


def first_use(group):
    """Equal calls, then one that differs: what is known is compared later."""
    import ringweave
    ringweave.set_agreement("first_use")
    softmax({"scale": 0.25})
    good = right()
    odd = dist.get_rank() == dist.get_world_size() - 1
    softmax({"scale": 0.5} if odd else {})  # neither is known
    return good


def modes(group):
    import ringweave
    for mode in ("first_use", "off", "every"):
        ringweave.set_agreement(mode)
        for _ in range(12):
            if not right():
                return mode
    return "right"


def all_refuse(group):
    import ringweave
    layout, parts = make()
    with contextlib.suppress(ValueError):
        ringweave.attention(*parts, layout=layout, plan="p", strategy="ring")
        return "no error"
    return right()


class Agreement(unittest.TestCase):
    def run_well(self, function, ranks, **arguments):
        return harness.run_well(self, function, ranks, **arguments)

    def test_every_rank_gets_the_same_error(self):
        for ranks in (2, 3, 5):
            by_rank, words = zip(*self.run_well(disagree, ranks))
            self.assertGreaterEqual(len(words[0]), 30)
            for results in zip(*by_rank):
                name, text, _, _ = results[0]
                with self.subTest(name, ranks=ranks):
                    self.assertEqual({result[1] for result in results}, {text})
                    self.assertIsNotNone(text)
                    self.assertIn(words[0][name], text)
                    self.assertLess(max(r[2] for r in results), SECONDS)
                    self.assertTrue(all(result[3] for result in results))

    def test_a_rank_that_does_not_call(self):
        first, _, last = self.run_well(absent, 3, skipped=1)
        for texts in (first, last):
            self.assertEqual(len(texts), 2)
            self.assertIn("[attention, call 2]", texts[0])
            self.assertIn("no such call of rank 1 within 2 s", texts[0])
            self.assertIn("can't be used any more", texts[1])

    def test_modes(self):
        self.assertEqual(self.run_well(modes, 3), ["right"] * 3)

    def test_first_use(self):
        for one in harness.run_ranks(first_use, 3):
            self.assertIn('got scale "0.5" on rank 2', one.text or "")

    def test_what_all_refuse_keeps_its_type(self):
        self.assertEqual(self.run_well(all_refuse, 3), [True] * 3)


if __name__ == "__main__":
    unittest.main()
