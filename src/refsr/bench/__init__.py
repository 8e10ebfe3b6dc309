"""Measuring how good a result is."""
