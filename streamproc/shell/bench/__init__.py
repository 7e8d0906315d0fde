"""What `streamproc bench` measures: ourselves and the field, on one machine in one run."""
