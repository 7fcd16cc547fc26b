"""Where the jobs of a sweep are run: this machine, or SLURM."""
