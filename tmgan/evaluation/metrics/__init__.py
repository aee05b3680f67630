"""What a trained editor is measured by. ../evaluate.py builds the metrics, ../protocol.py names them.

metric.py           the interface            per_image.py    base of those with one number per image
edits.py            photos, texts and edits  measure.py      a number, its interval, comparisons
distances.py        FID, KID, Inception score over features.py, moments.py, fid.py, kid.py, inception_score.py
per_image.py        mask score, sharpness, preserved regions
lpips.py  clip.py  manipulation.py  r_precision.py  colour_accuracy.py      one metric each
pattern_accuracy.py      another, over pattern_judge.py
"""
