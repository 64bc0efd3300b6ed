"""Recipes that make the models the project ships: run from `core/`, as `python -m training.NAME`; not installed."""
