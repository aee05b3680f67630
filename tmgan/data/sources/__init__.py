"""Folders of photographs and captions, in any layout that tmgan reads.

source.py        what a folder looks like once its lists have been read
read.py          recognises the layout and reads it
cub.py           CUB-200-2011 with captions
image_folder.py  a folder with a metadata.jsonl
unpickle.py      pickles of metadata, without running anything they contain
"""
