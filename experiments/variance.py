"""Find out why ICL varies between replicas: evaluation sequences, held-out classes, training."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("variance")
