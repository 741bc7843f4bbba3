"""What a run leaves behind: the store of artifacts, the description of a run, and the paper's published numbers.

Imports ``harness`` only. Nothing here loads torch; pandas is loaded where a frame is asked for.
"""
