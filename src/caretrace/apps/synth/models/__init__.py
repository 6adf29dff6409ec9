"""The generators: one contract, a folder or a file for each."""
