"""Where the jobs of a sweep run: on this machine, or under SLURM."""
