"""Log-probabilities of a method's rows under the starting student, computed once and stored as an artifact.

The same rows, forward pass and precision as in training, so that a loss against the reference starts where it must
(DPO: log 2).
"""

from __future__ import annotations

import torch

from harness.contracts.method import log_probabilities
from harness.training.batches import micro_batch, prepare, shapes
from harness.training.load import device_of, host, load_model, load_tokenizer, pad_of
from harness.training.options import Progress, Training
from harness.training.packing import choose
from harness.training.token_terms import response_terms


@torch.no_grad()
def reference_logps(training: Training, progress: Progress | None = None) -> list[list[float]]:
    """Summed log-probability, nats, of each row of each group, in order; an empty list for a group that drops out.

    ``progress`` counts forward passes. Raises UserError where no group can be used.
    """
    options = training.options
    trust = options.trust_remote_code
    tokenizer = load_tokenizer(training.student, trust)
    examples, _ = prepare(training, tokenizer)
    device = device_of(options)
    student = host(load_model(training.student, tokenizer, torch.float32, trust)).train(False).to(device)
    pad, vocabulary = pad_of(tokenizer), len(tokenizer)
    layout = choose(options, shapes(examples), [student], vocabulary)
    # Neighbours of one length pad little.
    examples = sorted(examples, key=lambda example: example.longest)
    result: list[list[float]] = [[] for _ in training.groups]
    starts = range(0, len(examples), options.micro_batch)
    for done, start in enumerate(starts, 1):
        part = examples[start : start + options.micro_batch]
        micro = micro_batch(part, pad, device, packed=layout.packed)
        with torch.autocast(device.type, torch.bfloat16, enabled=options.dtype == "bfloat16"):
            terms = response_terms(student, student, None, micro, log_probabilities, None, vocabulary, options.chunk)
        sums = iter(micro.batch.sum_rows(terms["logp"]).tolist())
        for example in part:
            result[example.group] = [next(sums) for _ in example.rows]
        if progress is not None:
            progress(done, len(starts), {})
    return result
