"""The paper's tables and figures, rebuilt, and one of ours: `tmgan tables`.

request.py     what was asked for
make.py        from the command to the finished page
variants.py    which runs there are: the paper's methods over one base, what their published code did, and ours
runs.py        trains or reuses them, one after the other, and says how long it takes
measure.py     measures each run once, and compares them photo by photo
results.py     all numbers as plain types, as tables.json has them
published.py   where each method's gradient goes, as the paper says and as its code ran
figures.py     Figures 5, 6 and 7 and the gradient maps as pictures
pages.py       all of it as one page, cells.py a number in a table; paper.yaml holds the paper's numbers
obedience.py   of that page, our own table
"""
