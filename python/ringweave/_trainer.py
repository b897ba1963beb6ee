"""ringweave.transformers.Trainer."""

import contextlib

import torch
import torch.distributed as dist
import transformers
from torch.distributed.device_mesh import init_device_mesh

from ringweave import transformers as split

# Dimensions of a mesh as accelerate calls them: its loaders give the ranks of one
# sequence group the same rows, those of others other rows.
_DATA, _SEQUENCE = "dp_replicate", "cp"


def _refuse(got, want):
    raise ValueError(f"[Trainer] got {got}; want {want}")


class Trainer(transformers.Trainer):
    """Transformers' Trainer, with the sequences of a batch split over ranks.

        trainer = ringweave.transformers.Trainer(
            model=model, args=args, train_dataset=rows, sequence_ranks=4)

    It takes what that takes; the model is one of attn_implementation="ringweave".
    sequence_ranks: how many consecutive ranks split a sequence; the rest is data
    parallel. Default: all, or accelerate's context-parallel size (cp_size), whose
    mesh is used then. layout, strategy, untried: as in shard_batch().

    A step's loss is the mean over the labels of all its rows, however they fall on
    ranks; evaluation's is the mean of that over batches, of all data parallel ranks
    together. Predictions are not gathered: evaluation gives the loss alone.
    """

    def __init__(self, *arguments, sequence_ranks=None, layout="zigzag",
                 strategy=None, untried=False, **options):
        super().__init__(*arguments, **options)
        if not dist.is_initialized():
            _refuse("one process without a group", "ranks that a launcher started, "
                    "such as torchrun")
        # It is already what it has to be; see compute_loss().
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True
        self._layout, self._strategy, self._untried = layout, strategy, untried
        self._check()
        self._group = self._mesh(sequence_ranks)[_SEQUENCE].get_group()
        self.gather_function = self._gather_losses
        self.accelerator.gather_for_metrics = self._gather_losses  # the next ones

    def _check(self):
        implementation = self.model.config._attn_implementation
        if implementation != split.NAME:
            _refuse(f"a model with attn_implementation {implementation}",
                    f'one made with attn_implementation="{split.NAME}", after '
                    "ringweave.transformers.register()")
        split.check(self.model.config, untried=self._untried)
        for name, given in (
                ("compute_loss_func", self.compute_loss_func),
                ("label_smoothing_factor", self.label_smoother),
                ("compute_metrics", self.compute_metrics),
                ("preprocess_logits_for_metrics",
                 self.preprocess_logits_for_metrics)):
            if given is not None:
                _refuse(name, "none: losses are of split sequences, and logits are "
                        "not gathered")
        if self.args.n_gpu > 1:
            _refuse(f"{self.args.n_gpu} devices in one process", "one each")

    def _mesh(self, sequence_ranks):
        ranks = dist.get_world_size()
        config = getattr(self.accelerator, "parallelism_config", None)
        if config is not None and config.cp_size > 1:
            if sequence_ranks not in (None, config.cp_size):
                _refuse(f"sequence_ranks {sequence_ranks} and a cp_size of "
                        f"{config.cp_size}", "one of them")
            return self.accelerator.torch_device_mesh
        if config is not None:
            _refuse("a parallelism_config without a cp_size", "one, or "
                    "sequence_ranks in its place")
        size = ranks if sequence_ranks is None else sequence_ranks
        if not isinstance(size, int) or size < 1 or ranks % size:
            _refuse(f"sequence_ranks {size} of {ranks} ranks", "a divisor")
        mesh = init_device_mesh(self.args.device.type, (ranks // size, size),
                                mesh_dim_names=(_DATA, _SEQUENCE))
        # Where its loaders look.
        self.accelerator.state.device_mesh = mesh
        return mesh

    def _prepare_context_parallel_inputs(self, model, inputs):
        """In place of accelerate's own splitting."""
        return contextlib.nullcontext, inputs

    def _get_num_items_in_batch(self, batch_samples, device):
        """Labels of all rows of a step, each row once."""
        labels = [batch["labels"] for batch in batch_samples if "labels" in batch]
        # A label is that of the token before it.
        count = sum(((each[..., 1:] != split.IGNORED_LABEL).sum()
                     for each in labels), torch.zeros((), dtype=torch.int64))
        count = count.to(device)
        dist.all_reduce(count)
        return count // dist.get_world_size(self._group)

    def compute_loss(self, model, inputs, return_outputs=False,
                     num_items_in_batch=None):
        batch = split.shard_batch(
            inputs, self._group, layout=self._layout, strategy=self._strategy,
            untried=self._untried)
        outputs = model(**batch, use_cache=False)
        # DDP and FSDP2 average gradients over all ranks.
        loss = split.loss(
            outputs.logits, batch, averaged=model.training,
            num_items=None if num_items_in_batch is None
            else num_items_in_batch.item())
        return (loss, outputs) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only,
                        ignore_keys=None):
        if "labels" not in inputs:
            _refuse("rows without labels to evaluate", "labels: logits of split "
                    "sequences are not gathered")
        with torch.no_grad():
            loss = self.compute_loss(model, self._prepare_inputs(inputs))
        return loss.detach(), None, None

    def _gather_losses(self, losses, use_gather_object=False):
        """In place of accelerate's gather_for_metrics(), which would take those of
        all ranks of a sequence group: of each group its first rank's."""
        size = dist.get_world_size(self._group)
        each = self.accelerator.gather(losses.contiguous()).unflatten(
            0, (-1, size, len(losses)))[:, 0].flatten(0, 1)
        state = self.accelerator.gradient_state
        # Loaders fill the last batch up with rows that have been there.
        rest = state.remainder if state.end_of_dataloader else -1
        return each[:rest] if rest > 0 else each
