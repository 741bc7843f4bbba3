"""What the preference methods share: the teacher's scores of a prompt's responses, the best-worst pair, the order.

The score is PAD's calibrated reward rhat = (1 - alpha) * mean log-probability + alpha * log p_sel (Eq. 9). Ties keep
the order of sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.contracts.method import DroppedPrompt, Row
from harness.contracts.options import require
from harness.types import Group

if TYPE_CHECKING:
    from torch import Tensor


def teacher_scores(group: Group, alpha: float = 1.0) -> list[float] | DroppedPrompt:
    """rhat of each sample, nats."""
    if len(group.samples) < 2:
        return DroppedPrompt("fewer than two responses")
    scores = []
    for sample in group.samples:
        total = 0.0
        for share, score in ((1 - alpha, sample.mean_logp), (alpha, sample.log_psel)):
            if share:  # alpha = 1 needs no log-probabilities, alpha = 0 no multiple choice
                if score is None:
                    return DroppedPrompt("a response has no teacher score")
                total += share * score
        scores.append(total)
    return scores


def require_several(config: object, n: int) -> None:
    require(n >= 2, f"a comparison needs at least 2 responses per prompt, not {n}")


def descending(scores: Sequence[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda index: -scores[index])


def pair(group: Group, config: object = None) -> tuple[Row, Row] | DroppedPrompt:
    """(chosen, rejected): largest and smallest log p_sel, of several best the first, of several worst the last."""
    scores = teacher_scores(group)
    if isinstance(scores, DroppedPrompt):
        return scores
    order = descending(scores)
    chosen, rejected = group.samples[order[0]], group.samples[order[-1]]
    # Equal texts have a margin of 0 whatever is learned, and equal scores are no preference.
    if chosen.text == rejected.text:
        return DroppedPrompt("chosen and rejected responses are identical")
    if scores[order[0]] == scores[order[-1]]:
        return DroppedPrompt("the teacher scores all responses the same")
    return Row.of(chosen, "chosen"), Row.of(rejected, "rejected")


def scored_rows(group: Group, alpha: float = 1.0, best_first: bool = True) -> list[Row] | DroppedPrompt:
    """All samples as rows with signal ``score``, best first or as sampled."""
    scores = teacher_scores(group, alpha)
    if isinstance(scores, DroppedPrompt):
        return scores
    if len({sample.text for sample in group.samples}) == 1:
        return DroppedPrompt("all responses are identical")
    order = descending(scores) if best_first else range(len(scores))
    return [Row.of(group.samples[i], signals={"score": scores[i]}) for i in order]


def pair_logs(margin: Tensor) -> dict[str, Tensor]:
    margin = margin.detach()
    # A pair without a difference counts half: at the start, where student = reference, all pairs tie.
    return {"margin": margin.sum(), "accuracy": ((margin.sign() + 1) / 2).sum()}


def order_logs(rewards: Tensor, scores: Tensor) -> dict[str, Tensor]:
    """Of rewards and teacher's scores, [B, n] each: ``agreement``, the share of pairs ordered alike (teacher
    indifferent: half), and ``ties``, prompts with at least two equal teacher scores."""
    import torch

    rewards, sorted_scores = rewards.detach(), scores.sort(1).values
    i, j = torch.triu_indices(scores.shape[1], scores.shape[1], 1, device=scores.device)
    signs = (rewards[:, i] - rewards[:, j]).sign() * (scores[:, i] - scores[:, j]).sign()
    return {
        "agreement": ((signs + 1) / 2).mean(1).sum(),
        "ties": (sorted_scores[:, 1:] == sorted_scores[:, :-1]).any(1).sum(),
    }
