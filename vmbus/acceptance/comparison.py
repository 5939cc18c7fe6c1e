"""How other implementations would take a ring: which packets, with what length, and who would be woken.

    comparison = compare(image)          any bytes, or any RingMem
    comparison.agree                     whether all do the same, as far as is known
    comparison.differences               where not, and why

Each implementation is a small model of its arithmetic (model_*.py), no more than was read of it; what is
inferred is marked and makes no difference.

Any bytes have a result.  Work is bounded: a model is followed for at most 4096 packets, and for 64 behind what
is published.

Offsets and sizes are in bytes.

The keys of the document "vmbus.compare/1", as `vmbus fuzz compare --json` prints it:

    schema          this name
    source          the dump: path, format, size
    agree           whether all models do the same, as far as is known, with every ring
    rings           one object for each: address, address_hex, data_size, padding (zeros added behind the image), control
                    (in, out, interrupt_mask, pending_send_size, feature_bits), write_size, agree, models, differences
    models          of a ring, one for each model: name, title, source (file and functions), unverified (what of it is
                    not certain), packets and end (steps), signal_after_first, signal_after_all, write
    steps           what it does at one offset: offset, answer (a value of Answer), why (the rule it follows; may be
                    empty), verified; of a packet length (without the footer), payload_offset and payload_length (null
                    where the ring's code leaves it open) and next (where it goes on); these are null in `end`
    signal_after_*  whether it wakes the sender, having given back the first packet alone, or all at once: signals, why,
                    verified; null where it takes none, or not all
    write           what it does with a packet of write_size bytes: answer (a value of WriteAnswer), signals (whether it
                    wakes the reader; null where it does not write), why, verified
    differences     kind (a value of Kind), offset of the packet (null for the control page), message, and groups of
                    models that answer alike: models (names), answer, why

With --list it has schema and models alone, each with name, title, source and unverified.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from vmbus.errors import CallerError
from vmbus.layout import SMALLEST_PACKET
from vmbus.memory import Buffer, FlatRingMem, RingMem, view_bytes
from vmbus.sizes import MAXIMUM_DATA_SIZE, PAGE_SIZE, SLOT, check_header_size

from .differences import Difference, Kind, answers_at, differing
from .model import Model, RingView, Step
from .model_dpdk import DpdkModel
from .model_freebsd import FreeBsdModel
from .model_linux import LinuxModel
from .model_openvmm import OpenVmmModel
from .model_qemu import QemuModel
from .model_uefi import UefiModel
from .model_vmbus import VmbusModel
from .reading import Reading, reading_by

__all__ = ["COMPARE_SCHEMA", "MODELS", "Comparison", "compare", "models_with"]

COMPARE_SCHEMA = "vmbus.compare/1"

#: Every model, in the order of the table.
MODELS: tuple[Model, ...] = (
    VmbusModel(),
    LinuxModel(),
    OpenVmmModel(),
    DpdkModel(),
    FreeBsdModel(),
    UefiModel(),
    QemuModel(),
)


def models_with(*, packet_buffer: int | None = None, caller_buffer: int | None = None) -> tuple[Model, ...]:
    """Every model, with buffers of so many bytes; None where a buffer holds any packet.

    packet_buffer   the private one that Linux copies a packet to, and cuts it
    caller_buffer   the one that DPDK is to copy a packet to, and refuses it

    >>> [model.name for model in models_with(packet_buffer=4096)]
    ['vmbus', 'linux', 'openvmm', 'dpdk', 'freebsd', 'uefi', 'qemu']
    """
    others: dict[str, Model] = {"linux": LinuxModel(packet_buffer), "dpdk": DpdkModel(caller_buffer)}
    return tuple(others.get(model.name, model) for model in MODELS)


class Comparison(NamedTuple):
    """One ring, as every model takes it.

    ring          its control words and its bytes
    readings      one of each model
    write_size    bytes of the packet that each was given to write
    differences   where they part, as far as that is verified
    padding       zeros behind the image, which was no control page with whole pages
    """

    ring: RingView
    readings: tuple[Reading, ...]
    write_size: int
    differences: tuple[Difference, ...]
    padding: int = 0

    @property
    def agree(self) -> bool:
        """True when no two are known to differ."""
        return not self.differences

    def reading_of(self, name: str) -> Reading:
        """The reading of the model of this name."""
        for reading in self.readings:
            if reading.model.name == name:
                return reading
        raise CallerError(
            f"no model is called {name!r}; there is {', '.join(one.model.name for one in self.readings)}",
            argument="name",
            value=name,
        )

    def to_json(self) -> dict[str, Any]:
        """The comparison as one of the rings of the document "vmbus.compare/1"."""
        ring = self.ring
        return {
            "data_size": ring.size,
            "padding": self.padding,
            "control": {
                "in": ring.in_offset,
                "out": ring.out_offset,
                "interrupt_mask": ring.interrupt_mask,
                "pending_send_size": ring.pending_send_size,
                "feature_bits": ring.feature_bits,
            },
            "write_size": self.write_size,
            "agree": self.agree,
            "models": [reading.to_json() for reading in self.readings],
            "differences": [difference.to_json() for difference in self.differences],
        }


def compare(
    image: Buffer | RingMem,
    *,
    header_size: int = PAGE_SIZE,
    write_size: int = SMALLEST_PACKET,
    models: Sequence[Model] = MODELS,
) -> Comparison:
    """How each model takes a ring, and where they differ.

    image         a control page and a data area as bytes, or any memory of a ring, such as that of a ring in a
                  dump.  Bytes that are no whole pages are taken with zeros behind them
    header_size   bytes of the control page, where the image is bytes
    write_size    bytes of a packet, descriptor and footer included, that each would now write

    Raises CallerError for a header size or a write size that cannot be.

    >>> from vmbus.ring import connected_rings
    >>> sender, receiver = connected_rings()
    >>> sender.send(b"waiting")
    True
    >>> compare(sender.memory).agree
    True
    >>> sender.memory.control[0] -= 8       # the footer is published no more
    >>> comparison = compare(sender.memory)
    >>> comparison.reading_of("linux").end.answer, comparison.reading_of("uefi").end.answer
    (<Answer.PAST_IN: 'past in'>, <Answer.ERROR: 'error'>)
    >>> print(comparison.differences[0].message)
    vmbus: error (it raises footer-not-published); linux and openvmm: takes a packet of 24 bytes (the footer need \
not be published); dpdk and freebsd: stalls (it waits for 24 bytes and their footer (EAGAIN)); uefi: error (a whole \
packet and its footer must be published); qemu: stalls (a packet that is not published whole, with its footer, is \
none yet)
    """
    if write_size < SMALLEST_PACKET or write_size % SLOT:
        raise CallerError(
            f"a packet has {SMALLEST_PACKET} bytes or more, a multiple of {SLOT}, and not {write_size}",
            argument="write_size",
            value=write_size,
            limit=SMALLEST_PACKET,
        )
    memory, padding = memory_over(image, header_size)
    ring = RingView(memory)
    readings = tuple(reading_by(model, ring, write_size) for model in models)
    return Comparison(ring, readings, write_size, tuple(differences_of(readings, ring)), padding)


def memory_over(image: Buffer | RingMem, header_size: int) -> tuple[RingMem, int]:
    """A memory for an image, and how many zeros it got behind it."""
    if hasattr(image, "read_at"):
        return image, 0
    view = view_bytes(image, "image")
    check_header_size(header_size)
    pages = max(1, -(-(len(view) - header_size) // PAGE_SIZE))
    size = header_size + min(pages * PAGE_SIZE, MAXIMUM_DATA_SIZE)
    data = bytes(view[:size])
    return FlatRingMem.over(data.ljust(size, b"\0"), header_size=header_size), size - len(data)


def differences_of(readings: Sequence[Reading], ring: RingView) -> Iterator[Difference]:
    """Where the models part: packet by packet, then the signals, then the room."""
    at: dict[int, list[tuple[str, Step]]] = {}
    for reading in readings:
        for step in reading.steps:
            at.setdefault(step.offset, []).append((reading.model.name, step))
    for offset in sorted(at, key=lambda offset: (offset - ring.out_offset) % ring.size):
        yield from answers_at(offset, at[offset])
    for name, signals in (
        ("after the first packet", [(one.model.name, one.after_first) for one in readings]),
        ("after all packets", [(one.model.name, one.after_all) for one in readings]),
    ):
        yield from differing(
            Kind.SIGNAL,
            None,
            [
                (model, f"{'wakes' if one.signals else 'does not wake'} the sender {name}", one.why)
                for model, one in signals
                if one is not None and one.verified
            ],
        )
    writes = [(one.model.name, one.write) for one in readings if one.write.verified]
    yield from differing(Kind.ROOM, None, [(model, one.answer.value, one.why) for model, one in writes])
    yield from differing(
        Kind.SIGNAL,
        None,
        [
            (model, f"{'wakes' if one.signals else 'does not wake'} the reader after the write", "")
            for model, one in writes
            if one.signals is not None
        ],
    )
