"""Fitting, export and evaluation of models; needs the extra `train`."""
