"""ringweave.transformers without Transformers: batches, documents, the loss."""

import itertools
import unittest

import torch
import torch.distributed as dist
import torch.nn.functional as F

import harness

ROWS, TOKENS, VOCABULARY = 2, 37, 11
OFFSETS = (0, 5, 6, 21, TOKENS)


def make_ids():
    return torch.arange(ROWS * TOKENS).reshape(ROWS, TOKENS) % VOCABULARY


def positions():
    return torch.cat([torch.arange(end - begin) for begin, end in
                      itertools.pairwise(OFFSETS)]).expand(ROWS, TOKENS)


def padding(tokens):
    """A mask of rows with tokens from … to."""
    return torch.stack([(torch.arange(TOKENS) >= begin)
                        & (torch.arange(TOKENS) < end)
                        for begin, end in tokens]).long()


def documents(group):
    """What each way to tell documents gives, joined from all ranks."""
    import ringweave
    from ringweave.transformers import shard_batch
    packed = [index for index, (begin, end) in
              enumerate(itertools.pairwise(OFFSETS)) for _ in range(begin, end)]
    forms = {
        "position_ids": {"position_ids": positions()},
        "one row": {"position_ids": positions()[:1]},
        "cu_seq_lens_q": {"cu_seq_lens_q": torch.tensor(OFFSETS),
                          "max_length_q": 16},
        "attention_mask": {"attention_mask": torch.tensor([packed] * ROWS) + 1},
        "none": {"attention_mask": torch.ones(ROWS, TOKENS), "labels": None},
        "padded": {"attention_mask": padding([(0, 30), (0, 34)])},
        "padded before": {"attention_mask": padding([(3, TOKENS), (3, 20)])}}
    found = {}
    for name, form in forms.items():
        part = shard_batch({"input_ids": make_ids(), **form})
        layout = part["sequence"].layout
        found[name] = (part["sequence"].document_offsets, sorted(part),
                       *(ringweave.unshard(part[each], layout).tolist()
                         for each in ("input_ids", "position_ids")))
    return found


def shifted(group, kind, tokens):
    """Labels of all ranks, and how many tokens this one has."""
    import ringweave
    from ringweave.transformers import shard_batch
    labels = torch.arange(tokens)[None]
    embeds = torch.randn(1, tokens, 3)
    part = shard_batch({"inputs_embeds": embeds, "labels": labels}, layout=kind)
    whole = ringweave.unshard(part["shift_labels"], part["sequence"].layout)
    return whole.tolist(), part["inputs_embeds"].shape


def losses(group):
    """Differences of value and gradient from one process's, by labels."""
    import ringweave
    from ringweave.transformers import loss, shard_batch
    torch.manual_seed(0)

    def seen(part):
        part["sequence"].checked.add("a config")  # as attention does
        return part

    logits = torch.randn(ROWS, TOKENS, VOCABULARY, dtype=torch.float64)
    found = {}
    for name, kept in (("all", slice(None)), ("one rank's", slice(0, 4)),
                       ("few", slice(3, 30, 7)), ("none", slice(0, 0))):
        labels = torch.full((ROWS, TOKENS), -100)
        labels[:, kept] = make_ids()[:, kept]
        part = seen(shard_batch({"input_ids": make_ids(), "labels": labels}))
        layout = part["sequence"].layout
        whole = logits.clone().requires_grad_()
        wanted = F.cross_entropy(whole[:, :-1].flatten(0, 1),
                                 labels[:, 1:].flatten(), reduction="sum")
        count = int((labels[:, 1:] != -100).sum())
        wanted = wanted / max(count, 1)
        wanted.backward()
        for averaged in (False, True):
            own = ringweave.shard(logits, layout).requires_grad_()
            got = loss(own, part, averaged=averaged)
            got.backward()
            factor = dist.get_world_size() if averaged else 1
            found[name, averaged] = max(
                abs(got.item() - wanted.item()),
                float((own.grad - factor * ringweave.shard(whole.grad, layout))
                      .abs().max()))
        half = loss(ringweave.shard(logits, layout), part, num_items=2 * max(count, 1))
        found[name, "of twice as many"] = abs(half.item() - wanted.item() / 2)
    return found


def refusals(group):
    import types
    from ringweave.transformers import attention, check, loss, shard_batch
    rank = dist.get_rank()
    batch = {"input_ids": make_ids(), "labels": make_ids()}
    other_rows = positions().clone()
    other_rows[1] = torch.arange(TOKENS)
    x = torch.zeros(1, 2, 3, 8)
    part = shard_batch(batch)

    def checked(model_type="llama", **config):
        check(types.SimpleNamespace(model_type=model_type, **config))

    calls = {
        "rows": lambda: shard_batch({**batch, "position_ids": other_rows}),
        "padding": lambda: shard_batch(
            {**batch, "attention_mask": padding([(3, TOKENS), (0, TOKENS)])}),
        "hole": lambda: shard_batch({**batch, "attention_mask": 1 - padding(
            [(3, 9), (3, 9)])}),
        "padding alone": lambda: shard_batch(
            {**batch, "attention_mask": padding([(0, 9), (0, 0)])}),
        "one rank's": lambda: shard_batch(
            batch if rank == 0 else {"labels": make_ids()}),
        "other batch": lambda: shard_batch({**batch, "labels": make_ids() + rank}),
        "empty rank": lambda: shard_batch({"input_ids": make_ids()[:, :1]}),
        "matrix": lambda: shard_batch(
            {**batch, "attention_mask": torch.ones(ROWS, 1, TOKENS, TOKENS)}),
        "unknown": lambda: shard_batch({**batch, "token_type_ids": make_ids()}),
        "no tokens": lambda: shard_batch({"labels": make_ids()}),
        "both": lambda: shard_batch({**batch, "inputs_embeds": x}),
        "labels": lambda: shard_batch({**batch, "labels": make_ids()[:, 1:]}),
        "offsets": lambda: shard_batch(
            {**batch, "cu_seq_lens_q": torch.tensor([0, 3])}),
        "layout": lambda: shard_batch(batch, layout="spiral"),
        "loss": lambda: loss(torch.zeros(2, 3, 5), part),
        "unseen": lambda: loss(torch.zeros(*part["input_ids"].shape, 5), part),
        "no labels": lambda: loss(x, {"sequence": part["sequence"]}),
        "type": lambda: checked("jamba"),
        "tried": checked,
        "untried": lambda: check(types.SimpleNamespace(model_type="mine"),
                                 untried=True),
        "layer": lambda: checked(layer_types=["full_attention",
                                              "linear_attention"]),
        "rope": lambda: checked(rope_scaling={"type": "dynamic"}),
        "rope of layers": lambda: checked(rope_parameters={
            "full_attention": {"rope_type": "longrope"}}),
        "encoder": lambda: checked(is_causal=False),
        "router": lambda: checked(output_router_logits=True),
        "dropout": lambda: checked(residual_dropout=0.1),
        "no batch": lambda: attention(
            types.SimpleNamespace(training=False, config=types.SimpleNamespace(
                model_type="llama")), x, x, x, None)}
    return harness.said(calls)


class ShardBatch(unittest.TestCase):
    def test_documents(self):
        for found in harness.run_well(self, documents, 3):
            # Padding behind the tokens is seen by none of them.
            for name, wanted in (("none", None), ("padded", None),
                                 ("padded before", (0, 3, TOKENS))):
                offsets, names, ids, counted = found.pop(name)
                self.assertEqual(offsets, wanted, name)
                self.assertEqual(names, ["input_ids", "position_ids", "sequence"])
                self.assertEqual(counted, [list(range(TOKENS))] * ROWS)
            for name, (offsets, _, own_ids, own_positions) in found.items():
                self.assertEqual(offsets, OFFSETS, name)
                self.assertEqual(own_ids, make_ids().tolist(), name)
                self.assertEqual(own_positions, positions().tolist(), name)

    def test_labels_are_shifted_before_they_are_split(self):
        for kind, tokens in (("zigzag", 37), ("contiguous", 5), ("striped", 3)):
            sizes = []
            for whole, shape in harness.run_well(self, shifted, 3, kind=kind,
                                                 tokens=tokens):
                self.assertEqual(whole, [[*range(1, tokens), -100]])
                sizes.append(shape[1])
            self.assertEqual(sum(sizes), tokens)

    def test_losses(self):
        for found in harness.run_well(self, losses, 3):
            self.assertEqual(len(found), 12)
            for case, difference in found.items():
                self.assertLess(difference, 1e-14, case)

    def test_refusals(self):
        wanted = {
            "rows": "got position_ids with other documents",
            "padding": "padding before the tokens that differs by row",
            "hole": "got attention_mask with padding between tokens",
            "padding alone": "got attention_mask with a row of padding alone",
            "one rank's": "refused on rank 1: [shard_batch] got no tokens",
            "other batch": 'got shift_labels "(',
            "empty rank": "got 1 tokens, of which rank 1 of 2 has none",
            "matrix": "got attention_mask of shape (2, 1, 37, 37); want (2, 37)",
            "unknown": "got token_type_ids, which it does not know how to split",
            "no tokens": "got no tokens; want input_ids or inputs_embeds",
            "both": "got input_ids and inputs_embeds; want",
            "labels": "got labels of shape (2, 36); want (2, 37)",
            "offsets": "got cu_seq_lens_q [0, 3]; want ascending offsets from 0",
            "layout": "spiral",
            "loss": "got logits of shape (2, 3, 5) and labels of shape (2, 1",
            "unseen": "got a batch that attention of ringweave has not seen",
            "no labels": "got a batch without shift_labels",
            "type": "got a model of type jamba; want one that was tried",
            "tried": "no error",
            "untried": "no error",
            "layer": "got layers of type linear_attention",
            "rope": "got rope_type dynamic, whose frequencies",
            "rope of layers": "got rope_type longrope, whose frequencies",
            "encoder": "got is_causal False; want a causal model",
            "router": "got output_router_logits; want False",
            "dropout": "got residual_dropout 0.1; want 0 in training",
            "no batch": "got attention without sequence=; want the batch of"}
        for said in harness.check_said(self, refusals, 2, wanted):
            for name, text in said.items():
                if wanted[name] != "no error":
                    self.assertTrue(text.startswith("ValueError: "), text)


if __name__ == "__main__":
    unittest.main()
