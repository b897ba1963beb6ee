"""ringweave.transformers.Trainer against Transformers' own on one process: losses,
evaluation, weights. Runs in an environment that has Transformers and accelerate; see
test_transformers.py."""

import pathlib
import sys
import tempfile
import types
import unittest

import torch
import torch.distributed as dist
import transformers
from torch.distributed.device_mesh import init_device_mesh

sys.path[:0] = [str(pathlib.Path(__file__).parent),
                str(pathlib.Path(__file__).parents[1])]
import harness  # noqa: E402
import ringweave.transformers  # noqa: E402

TOKENS, VOCABULARY, ROWS, BATCH, STEPS = 37, 61, 16, 4, 3
TOLERANCE = 1e-5  # fp32, in which Transformers computes losses
SECONDS = 120


def rows_of(labels):
    """Labels of rows fall unevenly on tokens."""
    generator = torch.Generator().manual_seed(1)
    rows = []
    for i in range(ROWS):
        ids = torch.randint(VOCABULARY, (TOKENS,), generator=generator)
        row = {"input_ids": ids, "labels": ids.clone()}
        # Transformers 4 counts the first label, which nothing predicts.
        row["labels"][:1 + (5 * i) % 30] = -100
        if labels == "one rank's":
            row["labels"][4:] = -100
            row["labels"][1:4] = ids[1:4]
        if labels == "none":
            row["labels"][:] = -100
        rows.append(row)
    return rows


def make_model(implementation):
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(
        transformers.LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=24, intermediate_size=32,
            num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2),
        attn_implementation=implementation)


def in_order(kind):
    """Without shuffling, so that rows do not depend on the ranks."""
    class Ordered(kind):
        def _get_train_sampler(self, *arguments):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    return Ordered


def arguments(folder, groups, **options):
    return transformers.TrainingArguments(
        output_dir=folder, max_steps=STEPS, gradient_accumulation_steps=2,
        per_device_train_batch_size=BATCH // groups,
        per_device_eval_batch_size=BATCH // groups, eval_strategy="steps",
        eval_steps=1, logging_steps=1, save_strategy="no", report_to=[],
        disable_tqdm=True, use_cpu=True, optim="sgd", learning_rate=0.5,
        lr_scheduler_type="constant", **options)


def trained(trainer):
    trainer.train()
    losses = [line[name] for line in trainer.state.log_history
              for name in ("loss", "eval_loss", "grad_norm") if name in line]
    return losses, [value.detach().clone()
                    for value in trainer.model.parameters()]


def trained_rank(group, sequence_ranks, labels, evaluated):
    """sequence_ranks: None for Transformers' own Trainer."""
    transformers.logging.set_verbosity_error()
    ringweave.transformers.register()
    rows = rows_of(labels)
    groups = dist.get_world_size() // (sequence_ranks or 1)
    kind, implementation, options = (
        (transformers.Trainer, "sdpa", {}) if sequence_ranks is None else
        (ringweave.transformers.Trainer, "ringweave",
         {"sequence_ranks": sequence_ranks}))
    with tempfile.TemporaryDirectory() as folder:
        return trained(in_order(kind)(
            model=make_model(implementation), train_dataset=rows,
            args=arguments(folder, groups, ddp_backend="gloo"),
            eval_dataset=rows[:evaluated], **options))


def accelerates_mesh_rank(group):
    """Accelerate makes none on CPUs: what it would give."""
    transformers.logging.set_verbosity_error()
    ringweave.transformers.register()
    ranks = dist.get_world_size()
    mesh = init_device_mesh("cpu", (ranks // 2, 2),
                            mesh_dim_names=("dp_shard", "cp"))
    with tempfile.TemporaryDirectory() as folder:
        trainer = ringweave.transformers.Trainer(
            model=make_model("ringweave"), train_dataset=rows_of("all"),
            eval_dataset=rows_of("all"),
            args=arguments(folder, 1, ddp_backend="gloo"))
        trainer.accelerator = types.SimpleNamespace(
            parallelism_config=types.SimpleNamespace(cp_size=2),
            torch_device_mesh=mesh)
        assert trainer._mesh(None) is mesh and trainer._mesh(2) is mesh
        said = harness.said({"both": lambda: trainer._mesh(4)})
        trainer.accelerator.parallelism_config.cp_size = 1
        return said | harness.said({"other": lambda: trainer._mesh(2)})


def refusals_rank(group):
    transformers.logging.set_verbosity_error()
    ringweave.transformers.register()
    rows = rows_of("all")
    with tempfile.TemporaryDirectory() as folder:
        def make(implementation="ringweave", smoothing=0.0, **options):
            return ringweave.transformers.Trainer(
                model=make_model(implementation), train_dataset=rows,
                args=arguments(folder, 1, ddp_backend="gloo",
                               label_smoothing_factor=smoothing),
                eval_dataset=rows, **options)

        return harness.said({
            "implementation": lambda: make("sdpa"),
            "ranks": lambda: make(sequence_ranks=3),
            "metrics": lambda: make(compute_metrics=len),
            "smoothing": lambda: make(smoothing=0.1),
            "loss": lambda: make(compute_loss_func=len),
            "unlabelled": lambda: make().evaluate(
                [{"input_ids": row["input_ids"]} for row in rows])})


class SplitTrainer(unittest.TestCase):
    def test_trains_as_the_unsplit_one(self):
        # Of several groups, loaders fill the last batch up with rows: not here.
        for labels, evaluated, sizes in (
                ("all", 7, ((1, 1), (3, 3))), ("all", 8, ((4, 2),)),
                ("one rank's", 7, ((2, 2),)), ("none", 7, ((2, 2),))):
            def run(ranks, sequence_ranks):
                return harness.run_well(
                    self, trained_rank, ranks, seconds=SECONDS,
                    sequence_ranks=sequence_ranks, labels=labels,
                    evaluated=evaluated)

            (want,) = run(1, None)
            for ranks, sequence_ranks in sizes:
                for got in run(ranks, sequence_ranks):
                    self.compare(got, want, labels)

    def compare(self, got, want, labels):
        if labels == "none":
            # Transformers' own divide 0 by 0.
            self.assertEqual(set(got[0]), {0.0})
            for value, first in zip(got[1], make_model("sdpa").parameters()):
                self.assertTrue(torch.equal(value, first))
            return
        self.assertEqual(len(got[0]), len(want[0]))
        for ours, theirs in zip(got[0], want[0]):
            # Transformers 4 rounds losses to four digits.
            self.assertAlmostEqual(ours, theirs, delta=1e-4)
        for ours, theirs in zip(got[1], want[1]):
            self.assertLess((ours - theirs).abs().max() / theirs.abs().max(),
                            TOLERANCE)

    def test_mesh_of_accelerate(self):
        harness.check_said(self, accelerates_mesh_rank, 4, {
            "both": "sequence_ranks 4 and a cp_size of 2",
            "other": "without a cp_size"})

    def test_refusals(self):
        harness.check_said(self, refusals_rank, 2, {
            "implementation": "attn_implementation sdpa",
            "ranks": "sequence_ranks 3 of 2 ranks", "metrics": "compute_metrics",
            "smoothing": "label_smoothing_factor", "loss": "compute_loss_func",
            "unlabelled": "without labels"})

    def test_without_a_group(self):
        ringweave.transformers.register()
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaisesRegex(ValueError, "torchrun"):
                ringweave.transformers.Trainer(
                    model=make_model("ringweave"), args=arguments(folder, 1),
                    train_dataset=rows_of("all"), eval_dataset=rows_of("all"))


if __name__ == "__main__":
    unittest.main()
