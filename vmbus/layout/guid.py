"""A GUID as it lies in memory, and as people write it.

In memory the first three groups are little-endian numbers and the last eight bytes stand in the order
in which they are written:

    text    f8615163-df3e-46c5-913f-f2d2f965ed0e
    bytes   63 51 61 f8 3e df c5 46 91 3f f2 d2 f9 65 ed 0e

Sources: Linux include/linux/uuid.h, guid_t; RFC 4122, section 4.1, for the version and the variant.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from vmbus.errors import CallerError

__all__ = ["GUID_SIZE", "Guid"]

GUID_SIZE = 16

#: Hexadecimal digits in each group of the text.
GROUPS = (8, 4, 4, 4, 12)

_IN_MEMORY = struct.Struct("<LHH8s")
_AS_WRITTEN = struct.Struct(">LHH8s")


class Guid(NamedTuple):
    """One GUID; equal and hashable by its bytes.

    wire   the 16 bytes as they lie in memory

    >>> guid = Guid.parse("{F8615163-DF3E-46C5-913F-F2D2F965ED0E}")
    >>> str(guid)
    'f8615163-df3e-46c5-913f-f2d2f965ed0e'
    >>> guid.wire[:4].hex()
    '635161f8'
    """

    wire: bytes

    @classmethod
    def parse(cls, text: str) -> Guid:
        """The GUID that a text names, in either case and with or without braces, else CallerError."""
        inner = text[1:-1] if text[:1] == "{" and text[-1:] == "}" else text
        groups = inner.split("-")
        if tuple(map(len, groups)) == GROUPS and inner.isascii():
            digits = "".join(groups)
            if digits.isalnum():  # fromhex() would skip spaces
                try:
                    return cls(_IN_MEMORY.pack(*_AS_WRITTEN.unpack(bytes.fromhex(digits))))
                except ValueError:
                    pass  # a letter behind f
        raise CallerError(
            f"{text!r} is no GUID: 8, 4, 4, 4 and 12 hexadecimal digits with dashes between them",
            argument="text",
            value=text,
        )

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> Guid:
        """The GUID whose bytes these are, as they lie in memory; CallerError unless they are 16."""
        if len(data) != GUID_SIZE:
            raise CallerError(
                f"a GUID has {GUID_SIZE} bytes, these are {len(data)}",
                argument="data",
                value=len(data),
                limit=GUID_SIZE,
            )
        return cls(bytes(data))

    @property
    def version(self) -> int:
        """How the GUID was made: 4 when at random, which nearly all are; 1 from time and network card."""
        return self.wire[7] >> 4

    @property
    def is_usual(self) -> bool:
        """Whether the two bits that RFC 4122 gives to the variant say that `version` has a meaning."""
        return self.wire[8] >> 6 == 0b10

    def __str__(self) -> str:
        digits = _AS_WRITTEN.pack(*_IN_MEMORY.unpack(self.wire)).hex()
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def __repr__(self) -> str:
        return f"Guid.parse({str(self)!r})"
