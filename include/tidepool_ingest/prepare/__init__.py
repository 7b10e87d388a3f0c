"""Step two of the pipeline: validate, edit, quarantine, chunk. ``step`` carries it out."""
