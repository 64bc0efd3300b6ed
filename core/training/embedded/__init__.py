"""The recipe of the embedded model: `python -m training.embedded`, from `core/`."""
