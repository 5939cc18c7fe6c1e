"""A dictionary for coverage-guided fuzzers: byte strings that mean something in a ring or a virtqueue.

Every number to which a schema gives a name is an entry, as wide and in the order of bytes that its field has; so is
the id of every device class.  The form is that of libFuzzer and AFL, an entry a line: `name="\\x06\\x00"`.

Source: https://llvm.org/docs/LibFuzzer.html#dictionaries.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from vmbus.layout import (
    CONTROL_PAGE_SCHEMA,
    PACKET_DESCRIPTOR_SCHEMA,
    PARTIAL_PIPE_HEADER_SCHEMA,
    PIPE_HEADER_SCHEMA,
    EnumField,
)
from vmbus.protocols import (
    DEVICE_CLASSES,
    GPADL_BODY_SCHEMA,
    GPADL_HEADER_SCHEMA,
    MESSAGE_HEADER_SCHEMA,
    OFFER_SCHEMA,
    OPEN_CHANNEL_SCHEMA,
)
from vmbus.virtio import (
    BLOCK_HEADER_SCHEMA,
    BLOCK_SEGMENT_SCHEMA,
    EVENT_SUPPRESSION_SCHEMA,
    HASH_NETWORK_HEADER_SCHEMA,
    LEGACY_NETWORK_HEADER_SCHEMA,
    NETWORK_HEADER_SCHEMA,
    OUTER_NETWORK_HEADER_SCHEMA,
    PACKED_DESCRIPTOR_SCHEMA,
    SPLIT_DESCRIPTOR_SCHEMA,
    TUNNEL_NETWORK_HEADER_SCHEMA,
    VSOCK_EVENT_SCHEMA,
    VSOCK_HEADER_SCHEMA,
    VSOCKMON_SCHEMA,
)

__all__ = ["SCHEMAS", "Entry", "dictionary"]

#: The schemas whose numbers have names.
SCHEMAS = {
    "control_page": CONTROL_PAGE_SCHEMA,
    "packet_descriptor": PACKET_DESCRIPTOR_SCHEMA,
    "partial_pipe_header": PARTIAL_PIPE_HEADER_SCHEMA,
    "pipe_header": PIPE_HEADER_SCHEMA,
    "gpadl_body": GPADL_BODY_SCHEMA,
    "gpadl_header": GPADL_HEADER_SCHEMA,
    "message_header": MESSAGE_HEADER_SCHEMA,
    "offer": OFFER_SCHEMA,
    "open_channel": OPEN_CHANNEL_SCHEMA,
    "block_header": BLOCK_HEADER_SCHEMA,
    "block_segment": BLOCK_SEGMENT_SCHEMA,
    "event_suppression": EVENT_SUPPRESSION_SCHEMA,
    "hash_network_header": HASH_NETWORK_HEADER_SCHEMA,
    "legacy_network_header": LEGACY_NETWORK_HEADER_SCHEMA,
    "network_header": NETWORK_HEADER_SCHEMA,
    "outer_network_header": OUTER_NETWORK_HEADER_SCHEMA,
    "packed_descriptor": PACKED_DESCRIPTOR_SCHEMA,
    "split_descriptor": SPLIT_DESCRIPTOR_SCHEMA,
    "tunnel_network_header": TUNNEL_NETWORK_HEADER_SCHEMA,
    "vsockmon": VSOCKMON_SCHEMA,
    "vsock_event": VSOCK_EVENT_SCHEMA,
    "vsock_header": VSOCK_HEADER_SCHEMA,
}


class Entry(NamedTuple):
    """A byte string with a name.

    >>> str(Entry("footer", b"\\0\\x18"))
    'footer="\\\\x00\\\\x18"'
    """

    name: str
    data: bytes

    def __str__(self) -> str:
        digits = "".join(f"\\x{byte:02x}" for byte in self.data)
        return f'{self.name}="{digits}"'


def dictionary() -> Iterator[Entry]:
    """All entries; a byte string that has several names has the first."""
    seen: set[bytes] = set()
    for entry in all_entries():
        if entry.data not in seen:
            seen.add(entry.data)
            yield entry


def all_entries() -> Iterator[Entry]:
    """A byte string for every name."""
    for schema_name, schema in SCHEMAS.items():
        for field_name, field in enumerated_fields(schema):
            for name, member in field.names.__members__.items():
                yield Entry(f"{schema_name}_{field_name}_{name.lower()}", field.build(member))
    for device_class in DEVICE_CLASSES:
        yield Entry(f"class_{device_class.name.replace('-', '_')}", device_class.class_id.wire)


def enumerated_fields(schema: Any) -> Iterator[tuple[str, EnumField]]:
    """The fields of a schema whose numbers have names."""
    for renamed in schema.subcons:
        field = renamed
        while field is not None and not isinstance(field, EnumField):
            field = getattr(field, "subcon", None)
        if field is not None:
            yield renamed.name, field
