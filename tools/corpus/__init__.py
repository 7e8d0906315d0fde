"""Corpora of simulated disturbances, made with ANDES (GPL-3.0) in a process and an environment of its own.

Nothing of streamproc imports this package, and it imports nothing of streamproc: what crosses is the file.
"""
