"""The checks of memory images: the part of vmbus.inspection.check_list that is about files, not rings."""

from __future__ import annotations

from vmbus.images import Check, Severity

__all__ = ["IMAGE_CHECKS"]

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
E, W, N = (ERROR,), (WARNING,), (NOTE,)

DMP = "Windows kernel dump headers"
KDUMP = "makedumpfile IMPLEMENTATION; crash diskdump.h"
STORAGE = "Hyper-V storage file format"

IMAGE_CHECKS = (
    Check("image-overlap", W, "image", "two pieces are for the same memory: the first is taken", "our own"),
    Check("image-cut-short", W, "image", "the file ends before what it says it has", "our own"),
    Check("image-damaged", E, "image", "a part of the file cannot be decoded", "our own"),
    Check("image-map", W, "image", "the memory map and the file do not fit each other", "Linux /proc/iomem"),
    Check("image-bitmap", W, "image", "a bitmap of pages is too short for the memory it is of", KDUMP),
    Check("image-codec", W, "image", "pages are compressed in a way that is not read here", KDUMP),
    Check("image-incomplete", W, "image", "the writer says that it did not get to all pages", KDUMP),
    Check("image-split", N, "image", "the file is one part of a split dump", KDUMP),
    Check("image-version", W, "image", "the header's version is newer than those known", KDUMP),
    # -- Windows crash dumps -------------------------------------------------------------------------
    Check("dmp-machine", W, "image", "the machine is of an unknown type", DMP),
    Check("dmp-page-count", W, "image", "the header counts other pages than there are", DMP),
    Check("dmp-first-page", W, "image", "the first page lies in the bitmap before it", DMP),
    Check("dmp-range", E, "image", "a range of memory ends behind the last address", DMP),
    Check("dmp-ranges", W, "image", "the list of ranges contradicts itself", DMP),
    Check("dmp-run-list", W, "image", "the header's list of runs contradicts itself", DMP),
    Check("dmp-partial", N, "image", "the dump does not say what memory it leaves out", DMP),
    # -- saved states of Hyper-V -----------------------------------------------------------------------
    Check("storage-checksum", W, "image", "a part of the container has a wrong checksum", STORAGE),
    Check("storage-header", W, "image", "a copy of the container's header is none", STORAGE),
    Check("storage-replay-log", W, "image", "the container has no replay log where it should be", STORAGE),
    Check("storage-dirty", W, "image", "the last change to the container was not finished", STORAGE),
    Check("storage-table", W, "image", "a table of the container is not where it should be", STORAGE),
    Check("storage-keys", W, "image", "keys of the container are too many, or there twice", STORAGE),
    Check("vmrs-block", W, "image", "a block of saved memory is there twice, or too many are", STORAGE),
    Check("vmrs-version", W, "image", "the VM's version is old, or not said", STORAGE),
    Check("vmbus-context", W, "image", "the saved state of VMBus cannot be read in full", STORAGE),
    # -- looking for rings -----------------------------------------------------------------------------
    Check("channel-doubt", N, "image", "messages about a channel contradict each other", "hyperv.h"),
    Check(
        "too-many-candidates", W, "image", "not all pages that look like control pages were judged", "our own"
    ),
    Check("too-much-to-judge", W, "image", "judging took too much, and not all pages were judged", "our own"),
    Check("too-many-lookalikes", N, "image", "not all that looks like a channel message was read", "our own"),
    Check("too-many-messages", N, "image", "not all messages about channels were kept", "our own"),
)
