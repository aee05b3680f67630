"""Scripts behind docs/reliability.md: faults, endurance, fuzzing, stalls."""
