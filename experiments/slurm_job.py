"""The class of SLURM jobs that version 0.1 queued as pickles."""

import sys

from emergent_icl.sweeps.execute.slurm import TrainJob as CurrentJob


class TrainJob(CurrentJob):
    """Its pickles hold the words after `python -m experiments.train`."""

    def __setstate__(self, state: dict) -> None:
        """Restores the whole command."""
        command = (sys.executable, "-m", "experiments.train", *state.pop("_words"))
        self.__dict__.update(state, _command=command)
