"""The figures and tables of the pages about the virtual hospital, section by section (see `hospital_figures.py`)."""
