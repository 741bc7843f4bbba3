"""ADPA+: ADPA (``methods/adpa.py``) that starts from DCKD's student and learns on that student's answers."""

import dataclasses

from methods import adpa

METHOD = dataclasses.replace(
    adpa.METHOD,
    name="adpa+",
    title="ADPA+",
    needs=dataclasses.replace(adpa.NEEDS, start="dckd"),
)
