"""Sizes and offsets are those of the structures in C.

The table is the one place that states them beside the schemas.  Structure and member are those of
Linux include/linux/hyperv.h, all packed; the footer is the 64-bit word that
drivers/hv/ring_buffer.c, hv_ringbuffer_write(), puts behind a packet: the old write index in its
upper half.  Microsoft's mu_msvm, MsvmPkg VmbusPacketFormat.h, asserts the feature word at byte 64.
"""

from __future__ import annotations

import pytest

from vmbus import layout
from vmbus.layout import (
    CONTROL_PAGE,
    FOOTER,
    GPA_DIRECT_HEADER,
    GPA_RANGE,
    PACKET_DESCRIPTOR,
    PARTIAL_PIPE_HEADER,
    PIPE_HEADER,
    TRANSFER_PAGE_HEADER,
    TRANSFER_PAGE_RANGE,
)

#: codec, C structure, its size, where in it ours begins, then for each of our fields the C member,
#: its offset in the C structure and its width
STRUCTURES = [
    (
        CONTROL_PAGE,
        "struct hv_ring_buffer",
        128,  # the rest is reserved2[], up to a page, and the data
        0,
        {
            "in_offset": ("write_index", 0, 4),
            "out_offset": ("read_index", 4, 4),
            "interrupt_mask": ("interrupt_mask", 8, 4),
            "pending_send_size": ("pending_send_sz", 12, 4),
            "reserved": ("reserved1[12]", 16, 48),
            "feature_bits": ("feature_bits", 64, 4),
            "reserved_after_features": ("reserved2[]", 68, 60),
        },
    ),
    (
        PACKET_DESCRIPTOR,
        "struct vmpacket_descriptor",
        16,
        0,
        {
            "type": ("type", 0, 2),
            "data_offset8": ("offset8", 2, 2),
            "length8": ("len8", 4, 2),
            "flags": ("flags", 6, 2),
            "transaction_id": ("trans_id", 8, 8),
        },
    ),
    (
        GPA_DIRECT_HEADER,
        "struct vmdata_gpa_direct",
        24,
        16,
        {"reserved": ("reserved", 16, 4), "range_count": ("range_cnt", 20, 4)},
    ),
    (
        GPA_RANGE,
        "struct gpa_range",
        8,
        0,
        {"byte_count": ("byte_count", 0, 4), "byte_offset": ("byte_offset", 4, 4)},
    ),
    (
        TRANSFER_PAGE_HEADER,
        "struct vmtransfer_page_packet_header",
        24,
        16,
        {
            "transfer_page_set_id": ("xfer_pageset_id", 16, 2),
            "reserved": ("sender_owns_set, reserved", 18, 2),
            "range_count": ("range_cnt", 20, 4),
        },
    ),
    (
        TRANSFER_PAGE_RANGE,
        "struct vmtransfer_page_range",
        8,
        0,
        {"byte_count": ("byte_count", 0, 4), "byte_offset": ("byte_offset", 4, 4)},
    ),
    (
        FOOTER,
        "u64 prev_indices",
        8,
        0,
        {"reserved": ("lower half", 0, 4), "packet_offset": ("upper half", 4, 4)},
    ),
    (
        PIPE_HEADER,
        "struct vmpipe_proto_header",
        8,
        0,
        {"packet_type": ("pkt_type", 0, 4), "length": ("data_size", 4, 4)},
    ),
    (
        PARTIAL_PIPE_HEADER,
        "struct vmpipe_proto_header",
        8,
        0,
        {
            "packet_type": ("pkt_type", 0, 4),
            "length": ("partial.data_size", 4, 2),
            "consumed": ("partial.offset", 6, 2),
        },
    ),
]


@pytest.mark.parametrize("row", STRUCTURES, ids=[row[0].record.__name__ for row in STRUCTURES])
def test_every_field_lies_where_its_member_lies_in_c(row):
    codec, structure, size, begin, members = row
    assert codec.size == size - begin, structure
    assert list(members) == list(codec.record._fields)
    for name, (member, offset, width) in members.items():
        assert codec.offsets[name] == offset - begin, member
        ones = {other: 0 if isinstance(value, int) else bytes(len(value)) for other, value in empty(codec)}
        ones[name] = 2 ** (8 * width) - 1 if isinstance(ones[name], int) else b"\xff" * width
        image = codec.pack(codec.record(**ones))
        assert image == bytes(offset - begin) + b"\xff" * width + bytes(size - offset - width), member


def empty(codec):
    """The fields of a codec and their values in zeroed memory."""
    return codec.unpack(bytes(codec.size))._asdict().items()


def test_no_codec_is_missing_from_the_table():
    codecs = {id(value) for value in vars(layout).values() if isinstance(value, layout.FixedCodec)}
    assert codecs == {id(row[0]) for row in STRUCTURES}


def test_the_constants_are_those_of_the_structures():
    assert (layout.DESCRIPTOR_SIZE, layout.FOOTER_SIZE, layout.SMALLEST_PACKET) == (16, 8, 24)
    assert (layout.PLAIN_DATA_OFFSET8, layout.PAGE_NUMBER_SIZE, layout.PIPE_HEADER_SIZE) == (2, 8, 8)
    assert layout.MAXIMUM_PIPE_PACKET_SIZE == 16384  # MAX_PIPE_DATA_PAYLOAD
    assert (layout.IN_WORD, layout.OUT_WORD, layout.INTERRUPT_MASK_WORD) == (0, 1, 2)
    assert (layout.PENDING_SEND_SIZE_WORD, layout.FEATURE_BITS_WORD) == (3, 16)


def test_packet_types_have_the_numbers_of_enum_vmbus_packet_type():
    assert [(kind.name, int(kind)) for kind in layout.PacketType] == [
        ("INVALID", 0x0),  # VM_PKT_INVALID
        ("SYNCH", 0x1),  # VM_PKT_SYNCH
        ("ADD_TRANSFER_PAGE_SET", 0x2),  # VM_PKT_ADD_XFER_PAGESET
        ("REMOVE_TRANSFER_PAGE_SET", 0x3),  # VM_PKT_RM_XFER_PAGESET
        ("ESTABLISH_GPADL", 0x4),  # VM_PKT_ESTABLISH_GPADL
        ("TEARDOWN_GPADL", 0x5),  # VM_PKT_TEARDOWN_GPADL
        ("IN_BAND", 0x6),  # VM_PKT_DATA_INBAND
        ("TRANSFER_PAGES", 0x7),  # VM_PKT_DATA_USING_XFER_PAGES
        ("GPADL", 0x8),  # VM_PKT_DATA_USING_GPADL
        ("GPA_DIRECT", 0x9),  # VM_PKT_DATA_USING_GPA_DIRECT
        ("CANCEL_REQUEST", 0xA),  # VM_PKT_CANCEL_REQUEST
        ("COMPLETION", 0xB),  # VM_PKT_COMP
        ("ADDITIONAL_PACKETS", 0xC),  # VM_PKT_DATA_USING_ADDITIONAL_PKT
        ("ADDITIONAL_DATA", 0xD),  # VM_PKT_ADDITIONAL_DATA
    ]


def test_flags_and_feature_bits_are_the_lowest_bit():
    assert [int(flag) for flag in layout.PacketFlags] == [1]  # VMBUS_DATA_PACKET_FLAG_COMPLETION_REQUESTED
    assert [int(bit) for bit in layout.FeatureBits] == [1]  # feat_pending_send_sz


def test_pipe_packet_types_have_the_numbers_of_mu_msvm():
    names = ["INVALID", "DATA", "PARTIAL", "SETUP_GPA_DIRECT", "TEARDOWN_GPA_DIRECT", "INDICATION_COMPLETE"]
    assert [(kind.name, int(kind)) for kind in layout.PipePacketType] == list(
        zip(names, range(6), strict=True)
    )
    assert layout.PIPE_PACKET_TYPE_DATA == 1
    assert layout.PIPE_PACKET_TYPE_PARTIAL == 2
    assert layout.PIPE_PACKET_TYPE_SETUP_GPA_DIRECT == 3
    assert layout.PIPE_PACKET_TYPE_TEARDOWN_GPA_DIRECT == 4
