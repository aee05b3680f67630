"""Four scripts for a GPU that one has for minutes: 1-step.sh, 2-rewrites.sh, 3-kernels.sh, 4-rest.sh.

supervisor.py starts a process a task and ends them in time; journal.py writes each row the moment it is known;
collect.py makes the documents of benchmarks/results of them.
"""
