"""List every option: default, allowed values, meaning."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("options")
