"""How reports spell packet types, flags and features; what has no name is shown by its number."""

from __future__ import annotations

from enum import IntFlag

from vmbus.ring import IncomingPacketType

__all__ = ["TYPE_NAMES", "bit_names", "counted", "type_label"]


def type_label(kind: int) -> str:
    """The name of a packet type that rings carry, or its number.

    >>> type_label(6), type_label(99)
    ('in-band', 'unknown-99')
    """
    try:
        return spelled(IncomingPacketType(kind).name)
    except ValueError:
        return f"unknown-{kind}"


def bit_names(kind: type[IntFlag], value: int) -> list[str]:
    """The names of the bits that are set; those without one as a number in hex.

    >>> from vmbus.layout import PacketFlags
    >>> bit_names(PacketFlags, 5)
    ['completion-requested', '0x4']
    """
    names = []
    for name, bit in kind.__members__.items():
        if value & bit.value:
            names.append(spelled(name))
        value &= ~bit.value
    return [*names, f"{value:#x}"] if value else names


def counted(count: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "packet"), counted(0, "packet")
    ('1 packet', '0 packets')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def spelled(name: str) -> str:
    """A member's name as a report has it: of SUPPORTS_A_THING only the thing."""
    return name.removeprefix("SUPPORTS_").lower().replace("_", "-")


#: The types that have a name of their own.
TYPE_NAMES = sorted(type_label(kind) for kind in IncomingPacketType)
