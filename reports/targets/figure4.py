"""Figure 4 of the paper (section 5.3): LC after each iteration, for the methods that train on the student's samples.

Every iteration samples anew from the student that the one before has trained.
"""

from harness.contracts.target import Point, Target, Variant

METHODS = ("dpo", "simpo", "pro", "pad-ppd")
ITERATIONS = (1, 2, 3)


def _row(method: str, iterations: int) -> str:
    return method if iterations == 1 else f"{method}-round{iterations}"


TARGET = Target(
    name="figure4",
    label="Figure 4",
    title="AlpacaEval 2 LC with different iterations",
    rows=("student", *(_row(method, count) for method in METHODS for count in ITERATIONS)),
    columns=("alpaca_eval.lc",),
    focus="pad-ppd",
    variants={
        _row(method, count): Variant(method, {"rounds": count})
        for method in METHODS
        for count in ITERATIONS
        if count > 1
    },
    layout="curves",
    points={_row(method, count): Point(method, count) for method in METHODS for count in ITERATIONS},
    axis="iterations",
    notes=("The paper prints no numbers of this figure; how many iterations it has is our reading.",),
)
