"""Jobs that an earlier version queued under SLURM are pickles of this class; for one version."""

import sys

from emergent_icl.sweeps.execute.slurm import TrainJob as CurrentJob


class TrainJob(CurrentJob):
    """Has the words after `python -m experiments.train`, where today's has the whole command."""

    def __setstate__(self, state: dict) -> None:
        """Completes the command."""
        command = (sys.executable, "-m", "experiments.train", *state.pop("_words"))
        self.__dict__.update(state, _command=command)
