"""What the preference methods share: the teacher's scores of a prompt's responses, the best-worst pair, the order.

Two scores (PAD section 4.2): the multiple-choice score log p_sel (Eq. 8), and the calibrated reward
rhat = (1 - alpha) * mean log-probability + alpha * log p_sel (Eq. 9). Ties keep the order of sampling, and are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.contracts.method import Dropped, Row
from harness.contracts.options import require
from harness.types import Group, Response

if TYPE_CHECKING:
    from torch import Tensor


def selection_scores(responses: Sequence[Response]) -> list[float] | None:
    """log p_sel per response, nats; ``None`` where the teacher scored not all of them."""
    scores = [response.log_psel for response in responses if response.log_psel is not None]
    return scores if len(scores) == len(responses) else None


def calibrated_rewards(responses: Sequence[Response], alpha: float) -> list[float] | None:
    """rhat per response, nats (PAD Eq. 9); ``None`` where a score that enters with a weight is missing."""
    rewards = []
    for response in responses:
        total = 0.0
        for share, score in ((1 - alpha, response.mean_logp), (alpha, response.log_psel)):
            if share and score is None:  # alpha = 1 needs no log-probabilities, alpha = 0 no multiple choice
                return None
            total += share * (score or 0.0)
        rewards.append(total)
    return rewards


def several(config: Any, n: int) -> None:
    """``Method.check`` of methods that compare responses."""
    require(n >= 2, f"a comparison needs at least 2 responses per prompt, not {n}")


def descending(scores: Sequence[float]) -> list[int]:
    """Indices from the best score to the worst; equal scores keep their order."""
    return sorted(range(len(scores)), key=lambda index: -scores[index])


def pair(group: Group, config: object = None) -> tuple[Row, Row] | Dropped:
    """``Method.rows`` of pairs: (chosen, rejected), the responses with the largest and the smallest log p_sel.

    They are the ends of one ranking in which ties keep their order: of several best responses the first is chosen, of
    several worst the last is rejected.
    """
    scores = selection_scores(group.samples)
    if scores is None or len(scores) < 2:
        return unusable(group)
    order = descending(scores)
    chosen, rejected = group.samples[order[0]], group.samples[order[-1]]
    if chosen.text == rejected.text:
        return Dropped("chosen and rejected responses are identical")
    if scores[order[0]] == scores[order[-1]]:
        return Dropped("the teacher scores all responses the same")
    return (
        Row(chosen.text, role="chosen", finished=chosen.finished),
        Row(rejected.text, role="rejected", finished=rejected.finished),
    )


def scored_rows(
    group: Group, scores: Sequence[float] | None, order: Sequence[int] | None = None
) -> list[Row] | Dropped:
    """All samples as rows with signal ``score``, in ``order`` (default: as sampled)."""
    if scores is None or len(scores) < 2:
        return unusable(group)
    if len({sample.text for sample in group.samples}) == 1:
        return Dropped("all responses are identical")
    picked = range(len(scores)) if order is None else order
    return [
        Row(group.samples[i].text, finished=group.samples[i].finished, signals={"score": scores[i]}) for i in picked
    ]


def unusable(group: Group) -> Dropped:
    """Why a prompt has no ranking."""
    return Dropped("fewer than two responses" if len(group.samples) < 2 else "a response has no teacher score")


def tied(scores: Tensor) -> Tensor:
    """Number of prompts with at least two equal scores, from scores [B, n]."""
    ordered = scores.sort(1).values
    return (ordered[:, 1:] == ordered[:, :-1]).any(1).sum()


def in_order(margin: Tensor) -> Tensor:
    """How many of the pairs have the chosen response first, from margins [B]; one without a difference counts half."""
    return ((margin.sign() + 1) / 2).sum()


def pair_logs(margin: Tensor) -> dict[str, Tensor]:
    """``Loss.logs`` of margins [B] between chosen and rejected; no gradient."""
    return {"margin": margin.detach().sum(), "accuracy": in_order(margin.detach())}


def agreement(rewards: Tensor, scores: Tensor) -> Tensor:
    """Summed over prompts: the share of pairs that the student orders as the teacher does, from [B, n] each.

    A pair on which the teacher is indifferent counts as half.
    """
    import torch

    n = scores.shape[1]
    i, j = torch.triu_indices(n, n, 1, device=scores.device)
    same = (rewards[:, i] - rewards[:, j]).sign() * (scores[:, i] - scores[:, j]).sign()
    return ((same + 1) / 2).mean(1).sum()
