"""Unpack a run that the command 'pack' wrote, to resume or open it here."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("unpack")
