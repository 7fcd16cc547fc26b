"""Execution of the jobs of sweeps, on this machine or under SLURM."""
