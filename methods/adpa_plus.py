"""ADPA+: ADPA that starts from DCKD's student and learns on that student's answers.

Equation, options and sources: ``methods/adpa.py``. Only the way there differs: the student is first trained by DCKD
(``methods/dckd.py``), gives its answers, and goes on from there.
"""

import dataclasses

from methods import adpa

METHOD = dataclasses.replace(
    adpa.METHOD,
    name="adpa+",
    title="ADPA+",
    needs=dataclasses.replace(adpa.NEEDS, start="dckd"),
)
