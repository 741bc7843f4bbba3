"""Fits behind the length control, in plain numpy: many small L1-penalised logistic regressions at once, a joint one.

``solve`` refits one three-coefficient model on hundreds of resamples in a second, which a general solver cannot.
``joint_difficulty`` estimates how hard each instruction is from all models together.
"""

from __future__ import annotations

import numpy as np

from harness.stats import Array


def sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)), without overflow."""
    half: Array = 0.5 * (1.0 + np.tanh(0.5 * z))
    return half


def _penalised_step(gradient: Array, hessian: Array, coef: Array) -> Array:
    """Minimise the quadratic model plus L1 for a batch of 3-vectors; returns the step.

    Where no coefficient is or becomes 0 this is one linear solve; the others go through coordinate descent. A column
    of zeros keeps its coefficient in both.
    """
    sign = np.sign(coef)
    usable = np.einsum("bjj->bj", hessian) > 1e-12
    # Most replicates keep all three coefficients off zero: one linear solve serves them all at once.
    smooth = (~usable | (sign != 0)).all(axis=1)
    step = np.zeros_like(coef)
    # A trace of ridge, and 1 on unused columns, keeps the batch solve from failing on a singular member.
    ridge = 1e-12 * np.einsum("bjj->b", hessian)[:, None, None] * np.eye(3) + ~usable[:, :, None] * np.eye(3)
    pull = np.where(usable, -(gradient + sign), 0.0)
    step[smooth] = np.linalg.solve((hessian + ridge)[smooth], pull[smooth, :, None])[:, :, 0]
    rest = ~smooth | (np.sign(coef + step) != sign).any(axis=1)
    if rest.any():
        step[rest] = _descend(gradient[rest], hessian[rest], coef[rest])
    return step


def _descend(gradient: Array, hessian: Array, coef: Array) -> Array:
    """The same by coordinate descent with soft thresholds."""
    step = np.zeros_like(coef)
    curvature = np.einsum("bjj->bj", hessian)
    usable = curvature > 1e-12  # a column of zeros keeps its coefficient
    scale = np.where(usable, curvature, 1.0)
    for _ in range(100):
        before = step.copy()
        for j in range(coef.shape[1]):
            slope = gradient[:, j] + (hessian[:, j] * step).sum(axis=1)
            target = coef[:, j] + step[:, j] - slope / scale[:, j]
            shrunk = np.sign(target) * np.maximum(np.abs(target) - 1.0 / scale[:, j], 0.0)
            step[:, j] = np.where(usable[:, j], shrunk - coef[:, j], 0.0)
        if np.abs(step - before).max() < 1e-9:
            break
    return step


def solve(
    length: Array, difficulty: Array, bias: Array, preference: Array, weight: Array, cost: Array,
    start: Array | None = None,
) -> Array:  # fmt: skip
    """Coefficients [batch, 3] that minimise cost * sum(weight * log loss) + sum(abs(coef)), by proximal Newton.

    Args:
        length: [rows] or [batch, rows]; the only feature that changes between replicates.
        difficulty, bias, preference: [rows].
        weight: [batch, rows].
        cost: [batch].
        start: [3] or [batch, 3]; zeros when left out.
    """
    batch = weight.shape[0]
    coef = np.zeros((batch, 3)) if start is None else np.array(np.broadcast_to(start, (batch, 3)))
    length = np.broadcast_to(length, weight.shape)
    fixed = np.stack([difficulty, bias])
    products = np.stack([difficulty * difficulty, difficulty * bias, bias * bias], axis=1)

    def objective(coef: Array) -> Array:
        logits = coef[:, :1] * length + coef[:, 1:] @ fixed
        losses = np.logaddexp(0.0, logits) - preference * logits
        return np.asarray(cost * np.einsum("bn,bn->b", weight, losses) + np.abs(coef).sum(axis=1))

    current = objective(coef)
    for _ in range(100):
        p = sigmoid(coef[:, :1] * length + coef[:, 1:] @ fixed)
        residual = weight * (p - preference)
        spread = weight * p * (1.0 - p)
        gradient = np.column_stack([np.einsum("bn,bn->b", residual, length), residual @ fixed.T]) * cost[:, None]
        tilted = spread * length
        crossed, square = tilted @ fixed.T, np.einsum("bn,bn->b", tilted, length)
        dd, db, bb = (spread @ products).T
        hessian = (
            np.stack(
                [square, crossed[:, 0], crossed[:, 1], crossed[:, 0], dd, db, crossed[:, 1], db, bb], axis=1
            ).reshape(batch, 3, 3)
            * cost[:, None, None]
        )
        step = _penalised_step(gradient, hessian, coef)
        # Halve the step of those replicates alone whose objective rose.
        size, new = np.ones((batch, 1)), coef + step
        value = objective(new)
        for _ in range(30):
            worse = value > current + 1e-9 * (1 + np.abs(current))
            if not worse.any():
                break
            size[worse] *= 0.5
            new = coef + size * step
            value = objective(new)
        moved = float(np.abs(new - coef).max())
        coef, current = new, value
        if moved < 1e-8:
            break
    return coef


def joint_difficulty(preference: Array, length: Array) -> Array:
    """One difficulty per instruction from all models together: logit P = b_m + a_m * length_mi + d_i.

    Ridge on d (a normal prior of unit spread, in logits) and a trace of it on a and b, by Newton's method with the
    diagonal block of d eliminated. Positive d: instructions on which models do better against the baseline.

    Args:
        preference: [models, instructions], nan where there is no verdict.
        length: [models, instructions] as ``length_feature`` gives it.
    """
    models, n = preference.shape
    seen = ~np.isnan(preference)
    y = np.where(seen, preference, 0.5)
    effects, d = np.zeros((2, models)), np.zeros(n)
    for _ in range(100):
        p = sigmoid(effects[0][:, None] + effects[1][:, None] * length + d)
        residual, spread = np.where(seen, y - p, 0.0), np.where(seen, p * (1 - p), 0.0)
        tilted = spread * length
        down_d = residual.sum(axis=0) - d
        curve_d = spread.sum(axis=0) + 1.0
        down = np.concatenate([residual.sum(axis=1), (residual * length).sum(axis=1)]) - 1e-3 * effects.ravel()
        cross = np.concatenate([spread, tilted])
        corner = np.diag(tilted.sum(axis=1))
        curve = np.block([[np.diag(spread.sum(axis=1)), corner], [corner, np.diag((tilted * length).sum(axis=1))]])
        curve = curve + 1e-3 * np.eye(2 * models) - (cross / curve_d) @ cross.T
        # Bounded steps: an instruction that every model wins has no finite difficulty without the prior.
        step = np.clip(np.linalg.solve(curve, down - cross @ (down_d / curve_d)), -2.0, 2.0)
        step_d = np.clip((down_d - step @ cross) / curve_d, -2.0, 2.0)
        effects, d = effects + step.reshape(2, models), d + step_d
        if max(np.abs(step).max(), np.abs(step_d).max()) < 1e-8:
            break
    return d
