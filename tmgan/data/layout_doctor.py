"""Say what of a source folder's layout is there and what is not, before its lists are read: `tmgan data doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tmgan.data.findings import Finding, Level, optional
from tmgan.data.sources import coco, coco_metadata, cub, flowers, image_folder
from tmgan.data.sources.caption_pickle import CAPTION_PICKLES
from tmgan.data.sources.flower_tables import CLASS_LISTS
from tmgan.data.sources.read import Layout

EXPECTED = """\
CUB-200-2011 with the captions of Reed and the lists of AttnGAN:
  DIR/CUB_200_2011/images/001.Black_footed_Albatross/*.jpg    from CUB_200_2011.tgz, as are the next three
  DIR/CUB_200_2011/images.txt, bounding_boxes.txt             boxes by which images are cropped
  DIR/CUB_200_2011/image_class_labels.txt, train_test_split.txt   used only without the lists below
  DIR/CUB_200_2011/segmentations/<class>/*.png                optional: true masks
  DIR/text/<class>/<image>.txt                                captions, one per line (text.zip inside birds.zip)
  DIR/{train,test}/filenames.pickle, class_info.pickle        the published split (birds.zip)
  DIR/captions.pickle                                         optional: word ids of published text encoders
COCO, or any folder like it (two or more files are a split each by their names; of one alone a tenth is for testing):
  DIR/annotations/captions_train2014.json, captions_val2014.json  captions (annotations_trainval2014.zip), or in DIR
  DIR/train2014/*.jpg, DIR/val2014/*.jpg                      pictures, or in DIR/images/train2014, or in DIR/images
COCO as AttnGAN's metadata lists it:
  DIR/images/COCO_train2014_000000000009.jpg                  pictures, or in DIR/images/train2014 or DIR/train2014
  DIR/text/COCO_train2014_000000000009.txt                    captions, one per line
  DIR/{train,test}/filenames.pickle, DIR/captions.pickle      split, and word ids of published text encoders
Oxford-102 flowers, or torchvision's flowers-102:
  DIR/jpg/image_00001.jpg, imagelabels.mat                    from 102flowers.tgz and beside it, as is the next one
  DIR/setid.mat                                               used only without one of the two splits below
  DIR/trainvalclasses.txt, testclasses.txt                    the published split by class (cvpr2016_flowers.tar.gz)
  DIR/{train,test}/filenames.pickle                           or one of names such as image_00001
  DIR/text_c10/class_00001/image_00001.txt                    captions, one per line (cvpr2016_flowers.tar.gz)
An image folder:
  DIR/metadata.jsonl, or DIR/train/metadata.jsonl and DIR/test/metadata.jsonl, one line per image:
  {"file_name": "0001.jpg", "text": "a red bird", "class": "finch", "bbox": [x, y, width, height], "mask": "m/1.png"}
  (`texts`: [...] for several captions; class, bbox, mask and split are optional)
docs/data.md says what is read and what is refused."""


def examine_layout(layout: Layout) -> Iterator[Finding]:
    """What a folder of a known layout has, and what is lost by what it has not."""
    if isinstance(layout, image_folder.Layout):
        yield Finding("ok", f"an image folder: {', '.join(map(str, layout.files))}")
    elif isinstance(layout, cub.Layout):
        yield from _examine_cub(layout)
    elif isinstance(layout, coco_metadata.Layout):
        yield Finding("ok", f"COCO as AttnGAN's metadata lists it: {layout.path}")
        yield from _examine_captions(layout.text, layout.captions, layout.archive, "coco.zip")
    elif isinstance(layout, coco.Layout):
        yield Finding("ok", f"a COCO folder: captions in {', '.join(map(str, layout.files))}")
    elif isinstance(layout, flowers.Layout):
        yield from _examine_flowers(layout)


def _examine_cub(layout: cub.Layout) -> Iterator[Finding]:
    yield Finding("ok", f"a CUB folder: images in {layout.cub / 'images'}")
    yield optional(
        (layout.cub / "bounding_boxes.txt").exists(),
        "bounding_boxes.txt",
        "images are not cropped to the bird, as they are in published results",
        "It is part of CUB_200_2011.tgz",
    )
    yield optional(
        (layout.lists / "train/filenames.pickle").exists(),
        "the published split (train/filenames.pickle)",
        "CUB's own split is used, in which both splits have all classes",
        "It is in AttnGAN's birds.zip",
    )
    yield from _examine_captions(layout.text, layout.captions, layout.archive, "birds.zip")
    yield optional(
        layout.segmentations is not None,
        "true masks (segmentations)",
        "methods cannot use the data set's own masks",
        "segmentations.tgz is a separate download of CUB-200-2011",
    )


def _examine_flowers(layout: flowers.Layout) -> Iterator[Finding]:
    yield Finding("ok", f"Oxford-102 flowers: images in {layout.images}")
    yield optional(
        layout.labels is not None,
        "imagelabels.mat",
        "classes follow from the captions' folders",
        "It is published beside 102flowers.tgz",
    )
    published = layout.classes or layout.lists
    yield optional(
        published is not None,
        f"a published split ({' and '.join(CLASS_LISTS)}, or train/filenames.pickle)",
        "setid.mat's is used, in which both splits have all classes",
        "The two lists are in cvpr2016_flowers.tar.gz",
    )
    if layout.text is None and layout.archive is not None:
        yield Finding("problem", f"{layout.archive} is not unpacked", f"Unpack it in {layout.archive.parent}")


def _examine_captions(text: Path | None, pickle: Path | None, archive: Path | None, origin: str) -> Iterator[Finding]:
    """The captions of AttnGAN's metadata, which it has twice; `origin` is its archive."""
    if text is None and archive is not None:
        level: Level = "problem" if pickle is None else "warning"
        yield Finding(level, f"{archive} is not unpacked", f"unzip {archive} -d {archive.parent}")
    yield optional(text is not None, "caption texts", "captions come from captions.pickle alone, unchecked")
    yield optional(
        pickle is not None,
        CAPTION_PICKLES[0],
        "the vocabulary is made from the texts, so published text encoders do not fit",
        f"It is in AttnGAN's {origin}",
    )
