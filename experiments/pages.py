"""Update the tables of Markdown pages from the results.json of a reproduction."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("pages")
