"""What `from vmbus.fuzzing import …` gives of rings made byte by byte, right or broken, and of pairs looked at in
the end.
"""

from .packet_builder import PacketImage, RawRange
from .plugin_fixtures import checked_channels, checked_ring_pair
from .ring_breaks import BREAKS, RingBreak
from .ring_images import Broken, RingImage

__all__ = [
    "BREAKS",
    "Broken",
    "PacketImage",
    "RawRange",
    "RingBreak",
    "RingImage",
    "checked_channels",
    "checked_ring_pair",
]
