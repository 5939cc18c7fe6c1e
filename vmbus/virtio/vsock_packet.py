"""One vsock packet where it lies: a header of 44 bytes in guest memory, and perhaps its data.

The header is read once, into a private copy; what the getters say never changes, whatever the guest
does with its memory afterwards.  The bytes themselves are behind `header_slice` and `data_slice`.

What a guest can get wrong is a PeerError with a VsockFault; its chain is then to be given back with
a length of 0, and the next one taken.  A device gives a packet that it received (tx) back with 0,
and one that it filled (rx) with 44 and the bytes of payload.

Header and data share one descriptor, or the data is all in the second one; a payload over several
descriptors is refused, and further descriptors are ignored.

Sources: OASIS VIRTIO 1.2, section 5.10.6; rust-vmm virtio-vsock, VsockPacket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import index
from struct import Struct
from typing import NamedTuple

from vmbus.errors import CallerError
from vmbus.memory import Buffer, QueueMemory, view_bytes

from .chains import DescriptorChain
from .descriptor import Descriptor
from .packet_slice import PacketSlice, refuse_write
from .vsock_chain import find_rx_packet, find_tx_packet
from .vsock_layout import LARGEST_PAYLOAD, VSOCK_HEADER, VsockHeader, VsockOperation, VsockType

__all__ = ["PKT_HEADER_SIZE", "VsockPacket"]

#: Bytes of a header.
PKT_HEADER_SIZE = VSOCK_HEADER.size

ZERO_HEADER = VsockHeader()

unpack_header = VSOCK_HEADER.struct.unpack_from


class Field(NamedTuple):
    """One number of a header: where it is, the largest that fits, and what stores it."""

    name: str
    offset: int
    largest: int
    pack_into: Callable[..., object]


def field_of(name: str) -> Field:
    """What the schema says of a field."""
    size = getattr(VSOCK_HEADER.schema, name).sizeof()
    number = Struct({2: "<H", 4: "<I", 8: "<Q"}[size])
    return Field(name, VSOCK_HEADER.offsets[name], (1 << 8 * size) - 1, number.pack_into)


SRC_CID, DST_CID, SRC_PORT, DST_PORT, LENGTH, TYPE, OPERATION, FLAGS, BUF_ALLOC, FWD_CNT = map(
    field_of, VsockHeader._fields
)


class VsockPacket:
    """A packet: its header in shared memory, a private copy of that, and its data if it has any.

    Made by `from_tx_virtq_chain`, `from_rx_virtq_chain` or `new`.

    A setter stores into the memory and into the private copy, and returns the packet, so that calls
    chain.  None of them looks at what the number means.  Raises CallerError, and changes nothing,
    for a number that does not fit its field and for memory that can only be read.

    >>> shared = bytearray(PKT_HEADER_SIZE)
    >>> packet = VsockPacket.new(shared, b"hello")
    >>> packet.set_src_cid(3).set_dst_cid(2).set_type(VsockType.STREAM).set_op(VsockOperation.RW).set_len(5)
    <VsockPacket: stream rw, 3:0 to 2:0, 5 bytes, flags 0x0, buf_alloc 0, fwd_cnt 0, 5 bytes of data>
    >>> packet.data_slice().read(0, packet.len), shared[24]
    (b'hello', 5)
    """

    __slots__ = (
        "_buf_alloc",
        "_data",
        "_dst_cid",
        "_dst_port",
        "_flags",
        "_fwd_cnt",
        "_len",
        "_op",
        "_slice",
        "_src_cid",
        "_src_port",
        "_type",
        "_view",
    )

    def __init__(self, header: memoryview, data: memoryview | None, values: Iterable[int]) -> None:
        """For the ways to make one below: `values` are the private copy."""
        self._view = header
        self._slice = PacketSlice(header)
        self._data = None if data is None else PacketSlice(data)
        self._keep(values)

    @classmethod
    def from_tx_virtq_chain(
        cls,
        memory: QueueMemory,
        chain: DescriptorChain | Iterable[Descriptor],
        max_data_size: int = LARGEST_PAYLOAD,
    ) -> VsockPacket:
        """The packet of the guest that a chain of the tx queue holds.

        chain           its descriptors: a DescriptorChain, or an iterator, from which as many are
                        taken as are needed, so that parsing it again finds too few
        max_data_size   the most payload that is accepted

        The data is as long as the header says, however long its descriptor is.

        Raises PeerError for what the guest did wrong.
        """
        return cls(*find_tx_packet(memory, chain, max_data_size))

    @classmethod
    def from_rx_virtq_chain(
        cls,
        memory: QueueMemory,
        chain: DescriptorChain | Iterable[Descriptor],
        max_data_size: int = LARGEST_PAYLOAD,
    ) -> VsockPacket:
        """An empty packet in a chain of the rx queue, for the device to fill.

        chain           as for from_tx_virtq_chain
        max_data_size   the most room that a descriptor for data alone may have; one that holds the
                        header as well may be of any size

        The private copy is zero, and the memory is left as it is: store a whole header with
        set_header_from_raw, or zeros before single setters.  The data is all the room there is.

        Raises PeerError for what the guest did wrong, also when it offers memory that can only be read.
        """
        header, data = find_rx_packet(memory, chain, max_data_size)
        return cls(header, data, ZERO_HEADER)

    @classmethod
    def new(cls, header: Buffer, data: Buffer | None = None) -> VsockPacket:
        """A packet over buffers of your own: 44 bytes for the header, data of any size or none.

        The private copy is zero, whatever the buffer holds.  Raises CallerError for a header of
        another size.
        """
        view = view_bytes(header, "header")
        check_header_size(view)
        return cls(view, None if data is None else view_bytes(data, "data"), ZERO_HEADER)

    def header_slice(self) -> PacketSlice:
        """The header's bytes as they are in memory now; storing there changes no getter."""
        return self._slice

    def data_slice(self) -> PacketSlice | None:
        """The payload's bytes, or the room for them; None where there is none."""
        return self._data

    def set_header_from_raw(self, header: Buffer) -> VsockPacket:
        """Store a whole header, and read it back into the private copy.

        Raises CallerError, and changes nothing, when it has not 44 bytes or the memory can only be read.
        """
        raw = view_bytes(header, "header")
        check_header_size(raw)
        self._slice.write(0, raw)
        self._keep(unpack_header(self._view))
        return self

    @property
    def header(self) -> VsockHeader:
        """All fields of the private copy."""
        return VsockHeader(
            self._src_cid,
            self._dst_cid,
            self._src_port,
            self._dst_port,
            self._len,
            self._type,
            self._op,
            self._flags,
            self._buf_alloc,
            self._fwd_cnt,
        )

    @property
    def src_cid(self) -> int:
        """The sender's address."""
        return self._src_cid

    @property
    def dst_cid(self) -> int:
        """The receiver's address."""
        return self._dst_cid

    @property
    def src_port(self) -> int:
        """The sender's port."""
        return self._src_port

    @property
    def dst_port(self) -> int:
        """The receiver's port."""
        return self._dst_port

    @property
    def len(self) -> int:
        """Bytes of payload, as the header says; `data_slice` may have others."""
        return self._len

    @property
    def is_empty(self) -> bool:
        """Whether the header says that there is no payload."""
        return not self._len

    @property
    def type_(self) -> int:
        """What kind of connection: a VsockType, or anything else."""
        return self._type

    @property
    def op(self) -> int:
        """What the packet is for: a VsockOperation, or anything else."""
        return self._op

    @property
    def flags(self) -> int:
        """Of a SHUTDOWN VsockShutdown, of an RW of messages VsockMessageFlags."""
        return self._flags

    @property
    def buf_alloc(self) -> int:
        """Bytes of the sender's receive buffer."""
        return self._buf_alloc

    @property
    def fwd_cnt(self) -> int:
        """Bytes that have left that buffer: a free-running 32-bit counter."""
        return self._fwd_cnt

    def set_src_cid(self, cid: int) -> VsockPacket:
        """Set the sender's address."""
        self._store(SRC_CID, cid)
        self._src_cid = cid
        return self

    def set_dst_cid(self, cid: int) -> VsockPacket:
        """Set the receiver's address."""
        self._store(DST_CID, cid)
        self._dst_cid = cid
        return self

    def set_src_port(self, port: int) -> VsockPacket:
        """Set the sender's port."""
        self._store(SRC_PORT, port)
        self._src_port = port
        return self

    def set_dst_port(self, port: int) -> VsockPacket:
        """Set the receiver's port."""
        self._store(DST_PORT, port)
        self._dst_port = port
        return self

    def set_len(self, length: int) -> VsockPacket:
        """Set what the header says of the payload; `data_slice` stays as it is."""
        self._store(LENGTH, length)
        self._len = length
        return self

    def set_type(self, type_: int) -> VsockPacket:
        """Set the kind of connection."""
        self._store(TYPE, type_)
        self._type = type_
        return self

    def set_op(self, op: int) -> VsockPacket:
        """Set what the packet is for."""
        self._store(OPERATION, op)
        self._op = op
        return self

    def set_flags(self, flags: int) -> VsockPacket:
        """Set all flags."""
        self._store(FLAGS, flags)
        self._flags = flags
        return self

    def set_flag(self, flag: int) -> VsockPacket:
        """Add a flag to those of the private copy."""
        return self.set_flags(self._flags | flag)

    def set_buf_alloc(self, buf_alloc: int) -> VsockPacket:
        """Set the size of the sender's receive buffer."""
        self._store(BUF_ALLOC, buf_alloc)
        self._buf_alloc = buf_alloc
        return self

    def set_fwd_cnt(self, fwd_cnt: int) -> VsockPacket:
        """Set the count of bytes that have left that buffer."""
        self._store(FWD_CNT, fwd_cnt)
        self._fwd_cnt = fwd_cnt
        return self

    def _store(self, field: Field, value: int) -> None:
        """Store one number into the memory."""
        index(value)  # TypeError for what is no integer
        if not 0 <= value <= field.largest:  # first: struct stores parts of what does not fit
            raise CallerError(
                f"{field.name} is 0 to {field.largest:#x}, and {value:#x} does not fit",
                argument=field.name,
                value=value,
                limit=field.largest,
            )
        if self._view.readonly:
            refuse_write(PKT_HEADER_SIZE)
        field.pack_into(self._view, field.offset, value)

    def _keep(self, values: Iterable[int]) -> None:
        """Take the ten numbers for the private copy."""
        (
            self._src_cid,
            self._dst_cid,
            self._src_port,
            self._dst_port,
            self._len,
            self._type,
            self._op,
            self._flags,
            self._buf_alloc,
            self._fwd_cnt,
        ) = values

    def __repr__(self) -> str:
        data = "no data" if self._data is None else f"{len(self._data)} bytes of data"
        return (
            f"<VsockPacket: {VsockType(self._type).label} {VsockOperation(self._op).label}, "
            f"{self._src_cid}:{self._src_port} to {self._dst_cid}:{self._dst_port}, {self._len} bytes, "
            f"flags {self._flags:#x}, buf_alloc {self._buf_alloc}, fwd_cnt {self._fwd_cnt}, {data}>"
        )


def check_header_size(header: memoryview) -> None:
    if len(header) != PKT_HEADER_SIZE:
        raise CallerError(
            f"a header has {PKT_HEADER_SIZE} bytes, and this one {len(header)}",
            argument="header",
            value=len(header),
            limit=PKT_HEADER_SIZE,
        )
