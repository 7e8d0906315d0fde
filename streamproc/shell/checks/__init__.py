"""What `streamproc check` looks at, one line each: OK, WARN or FAIL, and what to do."""
