"""A run as plain data, from plan to stored result: jobs, the pool, checkpoints, estimates, verification."""
