"""Reading photographs and captions, packing them, and loading packs.

Nothing is imported here: the worker processes of `prepare` import this package and must start without torch.
"""
