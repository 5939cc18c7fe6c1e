"""What `from vmbus.fuzzing import …` gives of trials and cases: imported when the first of it is asked for."""

from .arguments import Argument, Bytes, ByteSource, Choice, Flag, Listing, Number, Rest
from .byte_channel_trial import ByteChannelTrial
from .byte_pipe_trial import BytePipeTrial
from .case import CASE_SCHEMA, Case, Step
from .channel_trial import ChannelTrial
from .corpus import (
    IMAGES_FOLDER,
    Kept,
    corpus_of,
    crash_path,
    file_name,
    random_case,
    write_corpus,
    write_images,
)
from .fuzzer_dictionary import Entry, dictionary
from .hostile_channel_trial import HostileChannelTrial
from .hostile_queue_trial import HostileQueueTrial
from .hostile_ring_trial import HostileRingTrial
from .image_trial import ImageTrial
from .pipe_trial import MessagePipeTrial
from .queue_trial import PackedQueueTrial, SplitQueueTrial
from .ring_trial import RingTrial
from .target_table import fuzz_one, target_named, targets
from .trial import Operation, Trial, Wrong, operation, pattern

__all__ = [
    "CASE_SCHEMA",
    "IMAGES_FOLDER",
    "Argument",
    "ByteChannelTrial",
    "BytePipeTrial",
    "ByteSource",
    "Bytes",
    "Case",
    "ChannelTrial",
    "Choice",
    "Entry",
    "Flag",
    "HostileChannelTrial",
    "HostileQueueTrial",
    "HostileRingTrial",
    "ImageTrial",
    "Kept",
    "Listing",
    "MessagePipeTrial",
    "Number",
    "Operation",
    "PackedQueueTrial",
    "Rest",
    "RingTrial",
    "SplitQueueTrial",
    "Step",
    "Trial",
    "Wrong",
    "corpus_of",
    "crash_path",
    "dictionary",
    "file_name",
    "fuzz_one",
    "operation",
    "pattern",
    "random_case",
    "target_named",
    "targets",
    "write_corpus",
    "write_images",
]
