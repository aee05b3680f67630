"""The embedded data set: drawn birds, whose colours, parts and masks are known."""
