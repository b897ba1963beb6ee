"""Models of Transformers, unchanged, with their sequences split: against
themselves on one process. Runs in an environment that has Transformers; see
test_transformers.py."""

import itertools
import pathlib
import sys
import unittest

import torch
import torch.distributed as dist
import transformers

sys.path[:0] = [str(pathlib.Path(__file__).parent),
                str(pathlib.Path(__file__).parents[1])]
import harness  # noqa: E402
from in_double import in_double  # noqa: E402

ROWS, TOKENS, VOCABULARY, WINDOW = 2, 37, 61, 9
OFFSETS = (0, 5, 6, 21, TOKENS)
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
SECONDS = 300
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 24, "intermediate_size": 32,
         "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 64}
# Of Qwen a layer with a window and one without.
MODELS = {
    "llama": {},
    "mistral": {"sliding_window": WINDOW},
    "qwen2": {"use_sliding_window": True, "sliding_window": WINDOW,
              "max_window_layers": 1},
    "qwen3": {"head_dim": 8}}
# The others that ringweave.transformers says were tried, with a window where they
# know one.
WINDOWED = {"sliding_window": WINDOW}
PADDED = {"pad_token_id": 0}
OTHERS = {
    "apertus": {}, "arcee": {}, "cohere": {}, "ernie4_5": {},
    "exaone4": {**WINDOWED, "sliding_window_pattern": 2}, "gemma": {"head_dim": 8},
    "glm": {"head_dim": 8, **PADDED}, "glm4": {"head_dim": 8, **PADDED},
    "gpt_neox": {}, "granite": {}, "ministral": {"head_dim": 8, **WINDOWED},
    "olmo": {}, "olmo2": {}, "olmo3": WINDOWED, "phi3": {**WINDOWED, **PADDED},
    "seed_oss": {"head_dim": 8, "residual_dropout": 0.0,
                 "attention_dropout": 0.0}, "smollm3": PADDED,
    "starcoder2": WINDOWED}
# In version 5 their experts know no fp64.
EXPERTS = {
    "mixtral": {**WINDOWED, "num_local_experts": 4},
    "qwen3_moe": {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2,
                  "moe_intermediate_size": 16}}
ALL = {**MODELS, **OTHERS, **EXPERTS}
LAYOUTS = ("zigzag", "contiguous", "striped")


def make(kind, dtype, implementation):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **SIZES, **ALL[kind])
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation=implementation)
    with torch.no_grad():
        for value in model.parameters():
            drawn = torch.randn(value.shape, dtype=torch.float64)
            value.copy_(1 + 0.3 * drawn if value.dim() == 1 else 0.2 * drawn)
    return model.to(dtype)


def make_batch(packed, labels="all"):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(VOCABULARY, (ROWS, TOKENS), generator=generator)
    batch = {"input_ids": ids, "labels": ids.clone()}
    if labels == "some":
        batch["labels"][0, :20] = -100
        batch["labels"][1, 11::2] = -100
    if labels == "one rank's":
        batch["labels"][:, 4:] = -100
    if labels == "none":
        batch["labels"][:] = -100
    if packed:
        batch["position_ids"] = torch.cat([
            torch.arange(end - begin) for begin, end in
            itertools.pairwise(OFFSETS)]).expand(ROWS, TOKENS)
    return batch


def gradients(model):
    return torch.cat([value.grad.flatten() for value in model.parameters()])


def whole(kind, dtype, batch):
    """Loss and gradients of the unsplit model."""
    model = make(kind, dtype, "sdpa")
    loss = model(**batch, use_cache=False).loss
    if bool((batch["labels"][:, 1:] == -100).all()):
        return 0.0, torch.zeros(sum(v.numel() for v in model.parameters()))
    loss.backward()
    return loss.item(), gradients(model)


def split(kind, dtype, batch, **how):
    """The same of the split one, the gradients summed over the ranks."""
    import ringweave.transformers
    ringweave.transformers.register()
    model = make(kind, dtype, "ringweave")
    model.train()
    if how.pop("checkpointing", False):
        model.gradient_checkpointing_enable({"use_reentrant": False})
    part = ringweave.transformers.shard_batch(batch, **how)
    loss = ringweave.transformers.loss(model(**part, use_cache=False).logits, part)
    loss.backward()
    summed = gradients(model)
    dist.all_reduce(summed)
    return loss.item(), summed


def errors(kind, dtype, batch, unsplit=None, **how):
    """Differences of loss and gradients, relative to the largest. unsplit: what
    whole() gave, if it was called."""
    loss, wanted = unsplit or whole(kind, dtype, batch)
    got, summed = split(kind, dtype, batch, **how)
    scale = float(wanted.abs().max()) or 1.0
    return (abs(got - loss) / (abs(loss) or 1.0),
            float((summed - wanted).abs().max()) / scale)


def all_models(group):
    """Case -> errors(), in one launch."""
    transformers.logging.set_verbosity_error()
    found = {}
    with in_double():
        for kind, packed in itertools.product(MODELS, (False, True)):
            batch = make_batch(packed)
            unsplit = whole(kind, torch.float64, batch)
            for layout in LAYOUTS:
                found[kind, layout, packed] = errors(
                    kind, torch.float64, batch, unsplit, layout=layout)
        for labels in ("some", "one rank's", "none"):
            found["labels", labels] = errors("llama", torch.float64,
                                             make_batch(False, labels))
        found["checkpointing"] = errors("mistral", torch.float64,
                                        make_batch(True), checkpointing=True)
        found["strategy"] = errors("llama", torch.float64, make_batch(False),
                                   strategy="all_gather")
    return found


def other_models(group):
    transformers.logging.set_verbosity_error()
    with in_double():
        return {(kind, packed): errors(kind, torch.float64, make_batch(packed))
                for kind in OTHERS for packed in (False, True)}


def in_single(group):
    transformers.logging.set_verbosity_error()
    return {kind: errors(kind, torch.float32, make_batch(True))
            for kind in (*MODELS, *EXPERTS)}


def prefill(group):
    """Largest difference of logits of real tokens, by padding."""
    import ringweave
    import ringweave.transformers as ours
    ours.register()
    batch = make_batch(False)
    del batch["labels"]
    real = {"none": [(0, TOKENS)] * 2, "behind": [(0, 30), (0, 34)],
            "before": [(3, TOKENS), (3, TOKENS)], "both": [(3, 20), (3, TOKENS)]}
    found = {}
    with in_double(), torch.no_grad():
        for name, rows in real.items():
            mask = torch.zeros(ROWS, TOKENS, dtype=torch.int64)
            for row, (begin, end) in enumerate(rows):
                mask[row, begin:end] = 1
            more = {} if name == "none" else {"attention_mask": mask}
            wanted = make("mistral", torch.float64, "sdpa")(
                **batch, **more, use_cache=False).logits
            part = ours.shard_batch({**batch, **more})
            logits = make("mistral", torch.float64, "ringweave")(
                **part, use_cache=False).logits
            got = ringweave.unshard(logits, part["sequence"].layout)
            found[name] = (got - wanted)[mask != 0].abs().max().item()
    return found


def averaged_gradients(group):
    """Under DDP with averaged=True the gradients are those of one process."""
    from torch.nn.parallel import DistributedDataParallel
    import ringweave.transformers as ours
    ours.register()
    with in_double():
        _, wanted = whole("llama", torch.float64, make_batch(False))
        model = DistributedDataParallel(make("llama", torch.float64, "ringweave"))
        part = ours.shard_batch(make_batch(False))
        ours.loss(model(**part, use_cache=False).logits, part,
                  averaged=True).backward()
        return float((gradients(model) - wanted).abs().max() / wanted.abs().max())


def data_groups(group):
    """Two groups of two ranks with other batches: the mean over all labels."""
    import ringweave.transformers as ours
    ours.register()
    rank = dist.get_rank()
    groups = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    first, second = make_batch(False, "some"), make_batch(False)
    second["input_ids"] = second["input_ids"].flip(1)
    second["labels"] = second["labels"].flip(1)
    both = {name: torch.cat([first[name], second[name]]) for name in first}
    with in_double():
        loss, wanted = whole("llama", torch.float64, both)
        model = make("llama", torch.float64, "ringweave")
        part = ours.shard_batch((first, second)[rank // 2], groups[rank // 2])
        got = ours.loss(model(**part, use_cache=False).logits, part)
        got.backward()
        summed = gradients(model)
        dist.all_reduce(summed)
        return (abs(got.item() - loss),
                float((summed - wanted).abs().max() / wanted.abs().max()))


def refusals(group):
    """What each of these says."""
    import ringweave.transformers as ours
    ours.register()
    transformers.logging.set_verbosity_error()
    model = make("llama", torch.float32, "ringweave").eval()
    part = ours.shard_batch(make_batch(False))
    ids = part["input_ids"]
    dropping = make("llama", torch.float32, "ringweave").train()
    for layer in dropping.model.layers:
        layer.self_attn.attention_dropout = 0.5

    def attend(**keywords):
        return ours.attention(model.model.layers[0].self_attn,
                              *[torch.zeros(1, 2, ids.shape[1], 8)] * 3,
                              None, sequence=part["sequence"], **keywords)

    calls = {
        "no batch": lambda: model(ids, use_cache=False),
        "mask": lambda: model(**part, attention_mask=torch.zeros_like(ids),
                              use_cache=False),
        "matrix": lambda: model(**part, attention_mask=torch.zeros(
            ROWS, 1, ids.shape[1], ids.shape[1]), use_cache=False),
        "dropout": lambda: dropping(**part, use_cache=False),
        "sinks": lambda: attend(s_aux=torch.zeros(4)),
        "softcap": lambda: attend(softcap=30.0),
        "weights": lambda: attend(output_attentions=True),
        "cache": lambda: attend(use_cache=True),
        "not causal": lambda: attend(is_causal=False),
        "unused": lambda: attend(softcap=None, output_attentions=False,
                                 position_ids=ids),
        "generate": lambda: model.generate(ids[:1], max_new_tokens=2),
        "chunks": lambda: ours._mask(mask_function=chunked()),
        "untried": lambda: untried_model()(**part, use_cache=False)}
    return harness.said(calls)


def untried_model():
    config = transformers.GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=1,
                                     n_head=2)
    return transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="ringweave")


def chunked():
    from transformers import masking_utils
    return masking_utils.and_masks(
        masking_utils.causal_mask_function,
        masking_utils.chunked_overlay(4, torch.zeros(1)))


class Split(unittest.TestCase):
    def run_ranks(self, function, size):
        return harness.run_well(self, function, size, seconds=SECONDS)

    def test_losses_and_gradients_are_those_of_the_unsplit_model(self):
        for size in (1, 2, 3):
            for found in self.run_ranks(all_models, size):
                for case, differences in found.items():
                    self.assertLess(max(differences), TOLERANCE[torch.float64],
                                    (size, case))

    def test_the_other_models_that_were_tried(self):
        import ringweave.transformers
        self.assertEqual(sorted(ALL), sorted(ringweave.transformers.TRIED))
        for found in self.run_ranks(other_models, 2):
            for case, differences in found.items():
                self.assertLess(max(differences), TOLERANCE[torch.float64], case)

    def test_in_single_precision(self):
        for found in self.run_ranks(in_single, 3):
            for case, differences in found.items():
                self.assertLess(max(differences), TOLERANCE[torch.float32], case)

    def test_prefill(self):
        for found in self.run_ranks(prefill, 3):
            self.assertEqual(len(found), 4)
            for padding, difference in found.items():
                self.assertLess(difference, 1e-10, padding)

    def test_gradients_that_are_averaged(self):
        for error in self.run_ranks(averaged_gradients, 3):
            self.assertLess(error, 1e-10)

    def test_groups_with_other_batches(self):
        for differences in self.run_ranks(data_groups, 4):
            self.assertLess(max(differences), 1e-10)

    def test_refusals(self):
        wanted = {
            "no batch": "ringweave.Session generates",
            "mask": "got an attention mask of shape (2,",
            "matrix": "got an attention mask of shape (2, 1,",
            "dropout": "got attention dropout 0.5; want 0",
            "sinks": "got s_aux= from the model",
            "softcap": "got softcap= from the model",
            "weights": "got output_attentions= from the model",
            "cache": "want use_cache=False",
            "not causal": "got attention that is not causal",
            "untried": "got a model of type gpt2; want one that was tried",
            "unused": "no error",
            "generate": "ringweave.Session generates",
            "chunks": "got the mask chunked_overlay; want a causal one"}
        harness.check_said(self, refusals, 2, wanted, seconds=SECONDS)


if __name__ == "__main__":
    unittest.main()
