"""What `from vmbus.images import …` gives of single formats: imported when the first of it is asked for."""

from .compressed import unpack
from .dmp_bitmap import BitmapDump
from .flattened import FlattenedSource, unflatten
from .hyperv_storage import Storage as HyperVStorage
from .load_avml import AvmlDump
from .load_dmp import WindowsDump
from .load_elf import ElfDump
from .load_kdump import KdumpDump
from .load_vmrs import VmrsDump
from .memory_map import MappedDump, MemoryMap, load_mapped, parse_map, read_map
from .raw_image import LARGEST_RAW_IMAGE, RawImage, write_raw_image
from .sparse import SparseWriter
from .vmbus_context import ChannelPages

__all__ = [
    "LARGEST_RAW_IMAGE",
    "AvmlDump",
    "BitmapDump",
    "ChannelPages",
    "ElfDump",
    "FlattenedSource",
    "HyperVStorage",
    "KdumpDump",
    "MappedDump",
    "MemoryMap",
    "RawImage",
    "SparseWriter",
    "VmrsDump",
    "WindowsDump",
    "load_mapped",
    "parse_map",
    "read_map",
    "unflatten",
    "unpack",
    "write_raw_image",
]
