"""The methods: one file each, and this table of contents. Importing it reads no torch: a loss does when called."""

from harness.contracts.method import Method
from methods import (
    adpa,
    adpa_plus,
    best_of_n,
    dckd,
    distillm,
    dpo,
    gkd,
    ipo,
    kd,
    minillm,
    orpo,
    pad_ppd,
    pad_vpd,
    pro,
    seqkd,
    simpo,
)

METHODS: dict[str, Method] = {
    module.METHOD.name: module.METHOD
    for module in (
        kd, seqkd, minillm, dpo, simpo, pro, pad_vpd, pad_ppd,
        dckd, adpa, adpa_plus, best_of_n, ipo, orpo, gkd, distillm,
    )
}  # fmt: skip
"""The rows of the paper's Table 1 in its order, then further ones."""

__all__ = ["METHODS"]
