"""Direct preference optimisation on the teacher's favourite and least favourite of the student's responses.

    L = -log sigmoid( beta [ (S(y+) - S_ref(y+)) - (S(y-) - S_ref(y-)) ] ),    S(y) = sum_t log q(y_t | x, y_<t)

Mean over prompts. The reference is the starting student, frozen; its sums are computed once. Paper: Rafailov et al.
2023, arXiv 2305.18290. Pairs: largest and smallest log p_sel of the n samples (PAD appendix B.3).
"""

from harness.contracts.method import LEARNING_RATE, Batch, Loss, Method, Needs, Tensors, Term, Trl
from harness.contracts.options import Positive, options
from methods import ranking


@options
class DpoOptions:
    beta: Positive = 0.1
    """Inverse temperature of the implicit reward. TRL's default; 0.01 is what the SimPO authors tuned for 2B-8B."""


def loss(batch: Batch, terms: Tensors, config: DpoOptions) -> Loss:
    from torch.nn.functional import logsigmoid

    rewards = config.beta * (batch.sum_rows(terms["logp"]) - batch.signals["reference"])
    chosen, rejected = batch.per_prompt(rewards).unbind(1)
    margin = chosen - rejected
    logs = ranking.pair_logs(margin) | {"chosen": chosen.detach().sum()}
    return Loss((Term("preference", -logsigmoid(margin).sum(), per="prompt"),), logs)


METHOD = Method(
    name="dpo",
    title="DPO",
    paper="Rafailov et al. 2023, Direct Preference Optimization, arXiv 2305.18290",
    needs=Needs(responses=("samples",), signal="response", reference=True, rounds=True),
    config=DpoOptions,
    rows=ranking.pair,
    loss=loss,
    check=ranking.require_several,
    trl=Trl("dpo", lambda config: {"beta": config.beta}),
    space={**LEARNING_RATE, "beta": "log(0.01, 1)"},  # SimPO's authors searched 0.01 to 0.1, DPO's took 0.1 and 0.5
)
