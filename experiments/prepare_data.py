"""Write Omniglot as one file, which opens without TensorFlow and TFDS."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("prepare_data")
