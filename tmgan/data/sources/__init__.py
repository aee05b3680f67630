"""Folders of photographs and captions, in any layout that tmgan reads.

source.py              what a folder looks like once its lists have been read
read.py                recognises the layout and reads it
cub.py                 CUB-200-2011 with captions
cub_tables.py          its text tables
coco.py                COCO's captions_*.json
coco_metadata.py       COCO as AttnGAN's metadata lists it
flowers.py             Oxford-102 flowers with captions
flower_tables.py       its lists, some of them Matlab's
matlab.py              Matlab's files, without scipy
split_pickles.py       {train,test}/filenames.pickle of published metadata
published_captions.py  its captions: text files, captions.pickle, or both compared
caption_pickle.py      the words and captions of AttnGAN's captions.pickle
image_folder.py        a folder with a metadata.jsonl
metadata_row.py        one line of it
lines.py               the lines of a text file, in the encodings and with the line ends that there are
lost_words.py          what captions lose because only the letters of ASCII are read
unpickle.py            pickles of metadata, without running anything they contain
"""
