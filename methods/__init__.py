"""The methods: one file each, and this table of contents. A new method is a new file and one line here.

Importing this package reads equations, not torch: a loss imports torch when it is called.
"""

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
    method.name: method
    for method in (
        kd.METHOD,
        seqkd.METHOD,
        minillm.METHOD,
        dpo.METHOD,
        simpo.METHOD,
        pro.METHOD,
        pad_vpd.METHOD,
        pad_ppd.METHOD,
        dckd.METHOD,
        adpa.METHOD,
        adpa_plus.METHOD,
        best_of_n.METHOD,
        ipo.METHOD,
        orpo.METHOD,
        gkd.METHOD,
        distillm.METHOD,
    )
}
"""Name to method: the rows of the paper's Table 1 in its order, then further ones (named, or ``--methods all``)."""

__all__ = ["METHODS"]
