"""Five scripts for a GPU that is available for minutes only, 1-step.sh to 5-training.sh.

supervisor.py starts one process per task and ends them in time; journal.py writes each row the moment it is known;
collect.py turns the rows into the documents of benchmarks/results.
"""
