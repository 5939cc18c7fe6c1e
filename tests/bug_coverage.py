"""How each bug of the catalogue is kept out: what was planted, explored or put in, and who noticed.

    COVERAGE["B28"]     what holds that line, one or more of

    Planted             a fault of tests/planted_*.py that brings the bug back, by name; the test that must
                        notice it (tests/test_planted_faults.py sees to that) is one that names the bug
    Explored            a line of the rings or channels left out under the exploration of all schedules, by its
                        name in tests/exploration/test_explore.py, whose test names the bug and finds what goes wrong
    Refused             an input that makes the bug where it is not kept out, and the error that it is met with
                        here; tests/test_known_bugs.py puts it in
    CannotApply         why nothing here can have the bug, or the part of it that is said

A bug of a driver or of a kernel is held in the form that it can have here; a CannotApply beside that says
what of it has no such form.  No line has a CannotApply alone.

`python -m tests.known_bugs` prints the table: each bug, the tests that name it, and what holds it.
"""

from __future__ import annotations

from tests import refused_inputs as inputs
from tests.bug_holds import CannotApply, Explored, Held, Planted, Refused, caller, peer
from tests.known_bugs import CATALOGUE, named_by
from vmbus.errors import BufferTooSmall
from vmbus.pipe import PipeFault
from vmbus.protocols import MessageFault
from vmbus.ring import GpaRangeFault, RingFault
from vmbus.virtio import VirtqueueFault, VsockFault

__all__ = ["COVERAGE", "gaps_of", "table_text"]

COVERAGE: dict[str, tuple[Held, ...]] = {
    # -- signals that were lost, late or not wanted -------------------------------------------------
    "B01": (
        Planted("asleep without a second look"),
        Explored("no-look-after-pending"),
        Explored("no-fence-after-pending"),
    ),
    "B02": (Planted("room no longer asked for once somebody waits for a packet"),),
    "B03": (
        Planted("signal for a sender that asks for no room"),
        Explored("exactly-the-wanted-room-not-enough"),
        Explored("in-loaded-before-pending"),
    ),
    "B04": (
        Planted("signal before the index of the receiver is stored"),
        Explored("in-loaded-before-pending"),
        Explored("no-fence-after-out"),
    ),
    "B05": (Planted("signal although there was room enough before the read"),),
    "B06": (Planted("decision to signal by an out from before the commit"),),
    "B07": (Planted("signal while the reader has packets left"),),
    "B08": (
        Planted("unmasked without a fence before the look that follows"),
        Explored("no-fence-after-unmask"),
        Explored("no-look-after-unmask"),
    ),
    "B09": (Planted("mask loaded behind out"),),
    "B10": (Explored("signal-at-every-read"), Explored("no-mask-while-draining")),
    "B11": (
        Planted("the mask left clear while packets are taken out"),
        Explored("signal-at-every-write"),
        Explored("signal-at-every-write-while-unmasked"),
    ),
    "B12": (Planted("asleep as soon as it is unmasked"),),
    "B13": (
        Planted("no signal for packets that came before this side was there"),
        CannotApply("No answer to an open request: an attachment to shared memory stands for the open."),
    ),
    "B14": (Planted("no signal for a side that is not there yet"),),
    "B15": (Planted("no signal for what a killed predecessor owed"),),
    "B16": (Planted("asleep as soon as it is unmasked"),),
    "B17": (Planted("pending low bits not masked"),),
    "B18": (Planted("one packet for each call"),),
    "B19": (Planted("one packet for each call"),),
    "B20": (Planted("no end while packets keep coming"),),
    "B21": (Planted("no look for the completion while other packets are kept"),),
    "B22": (
        Planted("a closed peer that the loop goes on watching"),
        Planted("revoked device watched for ever"),
    ),
    "B23": (
        Planted("own bell rung instead of the other's"),
        Planted("monitored channel signaled as if it were not"),
    ),
    "B24": (Planted("mask left as it was found"), Planted("mask that the kernel has set left as it is")),
    # -- indices, sizes, wraps, full and empty --------------------------------------------------------
    "B25": (Planted("last slot used by a packet written in steps"),),
    "B26": (
        peer("in is the size of the ring", inputs.in_at_the_size, RingFault.INVALID_RING_POINTER),
        peer("out is the size of the ring", inputs.out_at_the_size, RingFault.INVALID_RING_POINTER),
        peer("in is no multiple of 8", inputs.in_between_slots, RingFault.INVALID_RING_POINTER),
    ),
    "B27": (
        peer(
            "in and out are equal and out of range", inputs.both_out_of_range, RingFault.INVALID_RING_POINTER
        ),
    ),
    "B28": (
        Planted("footer forgotten in the availability check"),
        Planted("footer forgotten in the availability check of receive"),
        Planted("footer forgotten in the availability check of receive_many"),
        peer("in at the start of a footer", inputs.footer_behind_in, RingFault.FOOTER_NOT_PUBLISHED),
    ),
    "B29": (
        Planted("a wrapped write loses what is behind the end"),
        Planted("pages listed once, so that nothing follows the last"),
    ),
    "B30": (Planted("quick way behind the end of the ring one that reads too much"),),
    "B31": (
        Planted("length truncated at 16 bits"),
        Planted("no largest packet but the ring's"),
        caller("a packet of 524,296 bytes", inputs.packet_too_long_for_16_bits, "payload"),
    ),
    "B32": (Planted("padding not zeroed"), Planted("padding of send not zeroed")),
    "B33": (
        caller("a control page alone", inputs.control_page_alone, "buffer"),
        caller("one page in all", inputs.one_page_in_all, "pages"),
        caller("a data area of 0 bytes", inputs.no_data_area, "size"),
    ),
    "B34": (Planted("rings of whole large pages only"), Planted("map that holds no two rings taken")),
    "B35": (
        Planted("pages of the machine taken for the host's"),
        Planted("maps of a device counted in pages of 4 KiB"),
        Planted("data of a device's rings always 4 KiB behind the control page"),
    ),
    "B36": (Planted("data always 4 KiB behind the control page"),),
    "B37": (Planted("sizes taken for powers of two"),),
    "B38": (
        Planted("every ring taken to be 16 KiB"),
        Planted("rings of a device taken to be 16 KiB"),
        Planted("ring file of a subchannel taken to be 4 MiB"),
    ),
    "B39": (
        Planted("second ring mapped over the first"),
        Planted("inbound ring of a device laid over the outbound one"),
    ),
    "B40": (Planted("index with a sign"),),
    "B41": (Planted("a slot of nothing behind each payload"),),
    "B42": (Planted("full ring logged as an error"),),
    # -- packets too large for somebody, and two views of one ring ------------------------------------
    "B43": (
        Planted("descriptor counted as a part of 4096 bytes"),
        Planted("a packet as large as the whole ring"),
    ),
    "B44": (Planted("a limit of 4 KiB for messages"),),
    "B45": (
        Planted("a packet gone although the buffer was too small"),
        Planted("a message gone although the buffer was too small"),
        Refused("a buffer of 15 bytes for 16", inputs.buffer_too_small, BufferTooSmall, "buffer"),
    ),
    "B46": (Planted("in loaded again for the packet itself"),),
    "B47": (
        Planted("the end of a stream forgotten"),
        Planted("the end of a stream lost behind its last bytes"),
    ),
    "B48": (Planted("upper half of a transaction id lost in a copy"),),
    "B49": (Planted("let go of twice"),),
    "B50": (
        Planted("a ring of zeros shown as one in use"),
        Planted("rings used before their channel is open"),
    ),
    "B51": (
        caller("more payload than the packet announces", inputs.answer_longer_than_its_packet, "payload"),
        caller("more bytes than the packet has room for", inputs.write_behind_a_packet, "length"),
        caller("more bytes than a chain has room for", inputs.used_length_above_the_room, "length"),
    ),
    # -- hostile values, and values that change between two looks -------------------------------------
    "B52": (Planted("descriptor read twice"), Planted("descriptor read twice by the steps")),
    "B53": (
        peer(
            "a GPA-direct packet with its payload behind the descriptor",
            inputs.payload_inside_its_header,
            RingFault.INVALID_DESCRIPTOR_LENGTHS,
        ),
    ),
    "B54": (
        Planted("part of a range counted from its first page"),
        peer("a range from byte 4096 on", inputs.range_behind_its_page, GpaRangeFault.OFFSET_TOO_LARGE),
    ),
    "B55": (
        peer(
            "a GPA-direct packet with 0 ranges",
            inputs.no_ranges,
            RingFault.INVALID_DESCRIPTOR_GPA_DIRECT_RANGE_COUNT,
        ),
        peer("a range of 0 bytes", inputs.range_of_no_bytes, GpaRangeFault.EMPTY_BYTE_COUNT),
    ),
    "B56": (
        Planted("sectors behind the end of the disk"),
        peer(
            "a packet longer than its buffer",
            inputs.packet_longer_than_its_buffer,
            VsockFault.INVALID_HEADER_LENGTH,
        ),
        peer("an offer that ends too soon", inputs.offer_cut_short, MessageFault.TOO_SHORT),
        CannotApply(
            "Messages of network and disk devices over VMBus are not taken apart here (not built yet)."
        ),
    ),
    "B57": (Planted("garbage in reserved fields judged"),),
    "B58": (
        peer("the flag 0x4", inputs.unknown_flag, RingFault.INVALID_DESCRIPTOR_FLAGS),
        peer("the type 5", inputs.unknown_type, RingFault.INVALID_DESCRIPTOR_TYPE),
    ),
    "B59": (Planted("no bytes taken for a last byte before the first"),),
    "B60": (
        peer("a message of 4 GiB in 8 bytes", inputs.pipe_length_above_its_packet, PipeFault.INVALID_LENGTH),
        CannotApply("No screens and no input devices, whose numbers were meant as well."),
    ),
    # -- transactions, order, the life of a channel ---------------------------------------------------
    "B61": (Planted("0 given out as a transaction id"),),
    "B62": (Planted("one table for all channels"), Planted("one request too many")),
    "B63": (Planted("no acquire behind the other side's index"),),
    "B64": (Planted("packets dropped while a reply is waited for"),),
    "B65": (
        Planted("a goodbye to a predecessor taken for one's own"),
        CannotApply(
            "Nothing here revokes channels in an order: the kernel does, and a host is not built yet."
        ),
    ),
    "B66": (
        Planted("an end attached for ever"),
        Planted("node that is not there yet given up"),
        Planted("node that is announced late not waited for"),
    ),
    "B67": (Planted("data on the way lost to a close"),),
    "B68": (
        Planted("a second answer taken off the count too"),
        caller("a chain given back twice", inputs.chain_given_back_twice, "head_index"),
    ),
    "B69": (Planted("a range for every page"),),
    "B70": (Planted("memory that was taken away shown all the same"),),
    # -- virtqueues ----------------------------------------------------------------------------------
    "V01": (
        Planted("available index one too far ahead"),
        peer("17 chains in a queue of 16", inputs.available_index_jump, VirtqueueFault.AVAILABLE_INDEX_JUMP),
    ),
    "V02": (
        Planted("driver's first fault forgotten"),
        peer("a descriptor that follows itself", inputs.circle, VirtqueueFault.CHAIN_TOO_LONG),
        peer("the same again", inputs.circle_again, VirtqueueFault.CHAIN_TOO_LONG),
        peer("a table inside a table", inputs.nested_table, VirtqueueFault.NESTED_INDIRECT),
    ),
    "V03": (
        Planted("full packed ring read once more"),
        peer("a chain that is in flight", inputs.chain_in_flight, VirtqueueFault.HEAD_IN_FLIGHT),
    ),
    "V04": (
        Planted("wrap counter not turned over: driver, completions"),
        Planted("wrap counter not turned over: driver, requests"),
    ),
    "V05": (
        Planted("list over the end of the ring that does not go on at its start"),
        Planted("head that is no descriptor"),
        peer("NEXT in the last entry", inputs.next_behind_the_last_entry, VirtqueueFault.NEXT_OUT_OF_RANGE),
        caller("a packed queue of 0", inputs.packed_queue_of_size_0, "size"),
    ),
    "V06": (Planted("table no longer than the queue"),),
    "V07": (
        Planted("end of a range without its upper bits"),
        peer(
            "a buffer that ends above 2**64", inputs.buffer_over_the_top, VirtqueueFault.BUFFER_OUTSIDE_MEMORY
        ),
    ),
    "V08": (
        Planted("chain of more bytes than 32 bits count"),
        caller("a split queue of 0", inputs.split_queue_of_size_0, "size"),
        caller("a chain out of a queue that was reset", inputs.pop_after_reset, "self"),
    ),
    "V09": (Planted("used index with its high byte first"),),
    "V10": (Planted("indirect table that must be aligned"),),
    "V11": (
        Planted("used index that does not wrap"),
        Planted("index of popped chains that does not wrap"),
        Planted("index of completions that does not wrap"),
    ),
    "V12": (Planted("device's full fence removed"), Planted("driver's full fence removed")),
    "V13": (Planted("used index lost over a migration"), Planted("queue at work after its reset")),
    "V14": (Planted("header and data in one descriptor refused"),),
    "V15": (Planted("driver silenced anew with every poll"),),
}


def gaps_of(number: str, tests: list[str]) -> list[str]:
    """What keeps a line of the table from saying that its bug is kept out; nothing where it says so.

    tests   those that name the bug
    """
    held = COVERAGE.get(number, ())
    gaps = [wrong for one in held if (wrong := one.holds(tests)) is not None]
    if not tests:
        gaps.append("no test names it")
    if all(isinstance(one, CannotApply) for one in held):
        gaps.append("nothing was planted, explored or put in")
    return gaps


def table_text() -> str:
    """The table: each bug with its sentence and source, the tests that name it, and what holds it."""
    named = named_by()
    lines = []
    for bug in CATALOGUE:
        tests = named[bug.number]
        lines += [f"{bug.number}  {bug.sentence}", f"     {bug.source}"]
        lines += [f"     test: tests/{test}" for test in tests]
        lines += [f"     {one}" for one in COVERAGE.get(bug.number, ())]
        lines += [f"     GAP: {gap}" for gap in gaps_of(bug.number, tests)]
    return "\n".join(lines)
