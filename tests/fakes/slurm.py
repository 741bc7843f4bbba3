"""Slurm's commands as far as submitit calls them: jobs are processes of this machine, and their states are files.

``install(folder)`` puts ``sbatch``, ``srun``, ``sacct``, ``scancel`` and ``scontrol`` there; ``folder/jobs`` has for
each job its script and its process id.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct", "scancel", "scontrol")


def install(folder: Path) -> Path:
    (folder / "jobs").mkdir(parents=True)
    for name in COMMANDS:
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "{__file__}" {name} "$@"\n')
        script.chmod(0o755)
    return folder


def sbatch(jobs: Path, script: str) -> None:
    text = Path(script).read_text()
    number = str(100 + len(list(jobs.glob("*.sh"))))
    (jobs / f"{number}.sh").write_text(text)
    array = re.search(r"--array=.?0-(\d+)", text)
    output = re.search(r"--error='?([^'\n]+)", text)
    assert output
    for task in range(int(array[1]) + 1) if array else [None]:
        name = number if task is None else f"{number}_{task}"
        environment = {"SLURM_JOB_ID": number, "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1"}
        if task is not None:
            environment |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": str(task)}
        log = output[1].replace("%A_%a", name).replace("%j", name).replace("%t", "0")
        process = subprocess.Popen(
            ["/bin/bash", str(jobs / f"{number}.sh")],
            env=os.environ | environment,
            stdout=subprocess.DEVNULL,
            stderr=open(log, "a"),  # noqa: SIM115, it is the job's
            start_new_session=True,
        )
        (jobs / f"{name}.pid").write_text(str(process.pid))
    sys.stdout.write(f"Submitted batch job {number}\n")


def srun(*words: str) -> None:
    command = list(words)
    while command[0].startswith("-"):
        del command[: 1 if command[0] == "--unbuffered" else 2]
    os.execvp(command[0], command)  # noqa: S606


def sacct(jobs: Path) -> None:
    sys.stdout.write("JobID|State|NodeList\n")
    for file in jobs.glob("*.pid"):
        status = Path(f"/proc/{file.read_text()}/stat")
        runs = status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
        sys.stdout.write(f"{file.stem}|{'RUNNING' if runs else 'NODE_FAIL'}|here\n")


def scancel(jobs: Path, name: str) -> None:
    for file in jobs.glob(f"{name}*.pid"):
        os.killpg(int(file.read_text()), 9)


if __name__ == "__main__":
    place = Path(os.environ["FAKE_SLURM"]) / "jobs"
    match sys.argv[1:]:
        case ["sbatch", script]:
            sbatch(place, script)
        case ["srun", *words]:
            srun(*words)
        case ["sacct", *_]:
            sacct(place)
        case ["scancel", *_, name]:
            scancel(place, name)
