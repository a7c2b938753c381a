"""Data sets: reading, labels, training crops, cached streams.

- `images`: `ImageSet`, a folder or tar archive; `data_path`
- `labeled`: `LabeledSet`, the protocol of data sets with targets; `LabeledSource`, where one lies; `open_labeled`;
  `ClassFolders`; `contents_digest` of all that figures depend on
- `coco`: `CocoImages`, for detection
- `coco_masks`: `CocoMasks`, for segmentation in VOC's classes or the file's own
- `layouts`: `find_layout`: the `Layout` of what somebody names: photographs, targets, what to validate on
- `coco_file`: `read_coco` checks and repairs an annotation file
- `segmentation`: `LabeledPixels`, CamVid's layout
- `labels`: `class_index`, from folder names
- `crops`: `Crops`, drawn from a mixture of `Source`
- `labeled_crops`: `LabeledCrops`, with targets
- `cached`: `CachedStreams`; `cache_streams` encodes a data set once
- `preferences`: `Preference`, `read_preferences`, `write_preferences`: two-alternative forced choices
- `samples`: `sample_images`, which come with scikit-image
- `archives`: `Archive`, random access to tar files
- `readable`: which photographs can be decoded
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
