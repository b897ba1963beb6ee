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
        "none": {"attention_mask": torch.ones(ROWS, TOKENS), "labels": None}}
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
    logits = torch.randn(ROWS, TOKENS, VOCABULARY, dtype=torch.float64)
    found = {}
    for name, kept in (("all", slice(None)), ("one rank's", slice(0, 4)),
                       ("few", slice(3, 30, 7)), ("none", slice(0, 0))):
        labels = torch.full((ROWS, TOKENS), -100)
        labels[:, kept] = make_ids()[:, kept]
        part = shard_batch({"input_ids": make_ids(), "labels": labels})
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
        half = loss(ringweave.shard(logits, layout), part["shift_labels"],
                    num_items=2 * max(count, 1))
        found[name, "of twice as many"] = abs(half.item() - wanted.item() / 2)
    return found


def refusals(group):
    from ringweave.transformers import attention, loss, shard_batch
    batch = {"input_ids": make_ids(), "labels": make_ids()}
    other_rows = positions().clone()
    other_rows[1] = torch.arange(TOKENS)
    uneven = torch.ones(ROWS, TOKENS)
    uneven[0, :3] = 0
    x = torch.zeros(1, 2, 3, 8)
    calls = {
        "rows": lambda: shard_batch({**batch, "position_ids": other_rows}),
        "padding": lambda: shard_batch({**batch, "attention_mask": uneven}),
        "matrix": lambda: shard_batch(
            {**batch, "attention_mask": torch.ones(ROWS, 1, TOKENS, TOKENS)}),
        "unknown": lambda: shard_batch({**batch, "token_type_ids": make_ids()}),
        "no tokens": lambda: shard_batch({"labels": make_ids()}),
        "both": lambda: shard_batch({**batch, "inputs_embeds": x}),
        "labels": lambda: shard_batch({**batch, "labels": make_ids()[:, 1:]}),
        "offsets": lambda: shard_batch(
            {**batch, "cu_seq_lens_q": torch.tensor([0, 3])}),
        "layout": lambda: shard_batch(batch, layout="spiral"),
        "loss": lambda: loss(torch.zeros(2, 3, 5), torch.zeros(2, 4)),
        "no batch": lambda: attention(None, x, x, x, None)}
    said = {}
    for name, call in calls.items():
        try:
            call()
            said[name] = "no error"
        except ValueError as error:
            said[name] = str(error)
        except RuntimeError as error:  # of the operations
            said[name] = str(error).splitlines()[0]
    return said


class ShardBatch(unittest.TestCase):
    def test_documents(self):
        for found in harness.run_well(self, documents, 3):
            offsets, names, ids, last = found.pop("none")
            self.assertIsNone(offsets)
            self.assertEqual(names, ["input_ids", "position_ids", "sequence"])
            self.assertEqual(last, [list(range(TOKENS))] * ROWS)
            for name, (offsets, _, own_ids, own_positions) in found.items():
                self.assertEqual(offsets, OFFSETS, name)
                self.assertEqual(own_ids, make_ids().tolist(), name)
                self.assertEqual(own_positions, positions().tolist(), name)

    def test_labels_are_shifted_before_they_are_split(self):
        for kind, tokens in (("zigzag", 37), ("contiguous", 5), ("striped", 2)):
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
            "padding": "got attention_mask with other documents, or other padding",
            "matrix": "got attention_mask of shape (2, 1, 37, 37); want (2, 37)",
            "unknown": "got token_type_ids, which it does not know how to split",
            "no tokens": "got no tokens; want input_ids or inputs_embeds",
            "both": "got input_ids and inputs_embeds; want",
            "labels": "got labels of shape (2, 36); want (2, 37)",
            "offsets": "got cu_seq_lens_q [0, 3]; want ascending offsets from 0",
            "layout": "spiral",
            "loss": "got logits of shape (2, 3, 5) and labels of shape (2, 4)",
            "no batch": "got attention without sequence=; want the batch of"}
        for said in harness.run_well(self, refusals, 2):
            self.assertEqual(set(said), set(wanted))
            for name, text in said.items():
                self.assertIn(wanted[name], text, name)


if __name__ == "__main__":
    unittest.main()
