from .archives import Archive
from .cached import CachedStreams, cache_streams
from .coco import CocoImages
from .coco_file import read_coco
from .coco_masks import CocoMasks
from .crops import Crops, Source
from .images import ImageSet, data_path
from .labeled import ClassFolders, LabeledSet, LabeledSource, contents_digest, open_labeled
from .labeled_crops import LabeledCrops
from .labels import class_index
from .layouts import Layout, find_layout
from .preferences import Preference, read_preferences, write_preferences
from .samples import sample_images
from .segmentation import LabeledPixels

__all__ = [
    "Archive",
    "CachedStreams",
    "ClassFolders",
    "CocoImages",
    "CocoMasks",
    "Crops",
    "ImageSet",
    "LabeledCrops",
    "LabeledPixels",
    "LabeledSet",
    "LabeledSource",
    "Layout",
    "Preference",
    "Source",
    "cache_streams",
    "class_index",
    "contents_digest",
    "data_path",
    "find_layout",
    "open_labeled",
    "read_coco",
    "read_preferences",
    "sample_images",
    "write_preferences",
]
