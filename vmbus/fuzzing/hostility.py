"""What `from vmbus.fuzzing import …` gives of somebody who acts between any two accesses."""

from .hostile_peer import HostilePeer, HostileQueuePeer
from .slow_memory import Access, SlowGuestMemory, SlowMemory
from .strikes import Strike, descriptor_bytes, random_plan

__all__ = [
    "Access",
    "HostilePeer",
    "HostileQueuePeer",
    "SlowGuestMemory",
    "SlowMemory",
    "Strike",
    "descriptor_bytes",
    "random_plan",
]
