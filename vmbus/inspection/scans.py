"""What `from vmbus.inspection import …` gives of scanning: imported when the first of it is asked for."""

from .control_page_finder import ControlCandidate, find_control_pages
from .data_area import LARGEST_LOOKED_FOR
from .found_ring import RINGS_SCORE, FoundRing, Reason
from .gpadl_index import ChannelRings, PageList, RingPages, channel_rings
from .message_finder import FoundMessage, MessageFinder
from .scan_json import SCAN_SCHEMA, found_ring_to_json, scan_to_json
from .scan_text import scan_to_lines
from .scanning import ScanOptions, ScanReport, scan, scan_many
from .sighting import Sighting, look_through, parts_of
from .workers import worker_pool

__all__ = [
    "LARGEST_LOOKED_FOR",
    "RINGS_SCORE",
    "SCAN_SCHEMA",
    "ChannelRings",
    "ControlCandidate",
    "FoundMessage",
    "FoundRing",
    "MessageFinder",
    "PageList",
    "Reason",
    "RingPages",
    "ScanOptions",
    "ScanReport",
    "Sighting",
    "channel_rings",
    "find_control_pages",
    "found_ring_to_json",
    "look_through",
    "parts_of",
    "scan",
    "scan_many",
    "scan_to_json",
    "scan_to_lines",
    "worker_pool",
]
