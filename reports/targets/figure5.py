"""Figure 5 of the paper (section 5.3): LC for different alpha, the share of the selection probability in the reward."""

from harness.contracts.target import Point, Target, Variant

ALPHAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

TARGET = Target(
    name="figure5",
    label="Figure 5",
    title="AlpacaEval 2 LC with different alpha",
    rows=("student", *(f"pad-ppd-alpha{alpha}" for alpha in ALPHAS)),
    columns=("alpaca_eval.lc",),
    variants={
        f"pad-ppd-alpha{alpha}": Variant("pad-ppd", {"alpha": alpha, "title": f"PAD w/ PPD, alpha {alpha}"})
        for alpha in ALPHAS
    },
    layout="curves",
    points={f"pad-ppd-alpha{alpha}": Point("pad-ppd", alpha) for alpha in ALPHAS},
    axis="alpha: share of the selection probability in the teacher's reward",
    notes=("The paper prints no numbers of this figure; steps of 0.2 are our reading.",),
)
