"""What is trained for README's table of quality, and on which seeds.

Settings were chosen on networks of seed 0, judged by their own held-out birds and by those of a set of seed 100; the
seeds here have served no choice.
"""

from __future__ import annotations

TUNED_ON = 0
SEEDS = (1, 2, 3)
# Options of `tmgan train`. One thread: small networks share a processor badly.
BUDGETS: dict[str, tuple[str, ...]] = {
    "default": ("--runtime.threads", "1"),
    "five-minutes": ("--images", "28000", "--runtime.threads", "1"),
    "ten-minutes": ("--images", "56000", "--runtime.threads", "1"),
}
EVALUATED = 300  # held-out birds of another set, the same for all runs: standard error 0.02
SET_SEED, SET_SIZE, IMAGE_SIZE = 200, 2_000, 64
# What README's picture shows: the first birds of that set, edited by these.
BIRDS = 3
SENTENCES = (
    "a bird with a red head and white wings",
    "a bird with a blue body and a yellow head",
    "this bird has black wings",
    "a small bird with a green head, orange wings and a white belly",
    "a bird with a purple body",
)
