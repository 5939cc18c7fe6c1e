"""What an operation of a trial is given: declared once, then read from bytes, written to bytes, and drawn.

An argument reads any bytes, and whatever it makes of them it writes back: `decode(encode(value)) == value`.  A
source that has ended reads as zeros, so a case that was cut is still a case.

Half of all random bytes lead to a corner, where an argument has corners: the sizes, offsets and values at which
rings go wrong are met at once and not by luck.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vmbus.errors import CallerError

__all__ = ["Argument", "ByteSource", "Bytes", "Choice", "Flag", "Listing", "Number", "Rest"]

#: The low bit of the byte before a number: whether it is a corner or is written out.
CORNER, WRITTEN_OUT = 0, 1

MOST_CORNERS = 128  # as many as the rest of that byte can tell apart


class ByteSource:
    """Bytes from which arguments take theirs, one behind the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def has_more(self) -> bool:
        return self._at < len(self._data)

    def take(self, length: int) -> bytes:
        """The next bytes; zeros where they have ended."""
        data = self._data[self._at : self._at + length]
        self._at += length
        return data.ljust(length, b"\0")

    def number(self, length: int = 1) -> int:
        """The next bytes as a number, the lowest first."""
        return int.from_bytes(self.take(length), "little")

    def rest(self) -> bytes:
        """All that is left."""
        data = self._data[self._at :]
        self._at = len(self._data)
        return data


class Argument:
    """The values that an argument can have; the base of the kinds below."""

    def decode(self, source: ByteSource) -> Any:
        """The value that the next bytes stand for; every bytes do."""
        raise NotImplementedError

    def encode(self, value: Any) -> bytes:
        """Bytes that stand for a value."""
        raise NotImplementedError

    def simpler(self, value: Any) -> Iterator[Any]:
        """Values that are simpler than this one, the simplest first: those of a lower rank."""
        return iter(())

    def rank(self, value: Any) -> Any:
        """How simple a value is: something to compare, lower where it is simpler."""
        data = self.encode(value)
        return len(data), data

    def refuse(self, value: object, limit: object) -> CallerError:
        return CallerError(f"{value!r} is not a value of {self}", argument="value", value=value, limit=limit)

    def to_json(self, value: Any) -> Any:
        """A value as JSON can have it."""
        return value

    def from_json(self, value: Any) -> Any:
        """The value that JSON has so; CallerError for one that cannot be."""
        self.encode(value)
        return value


class Number(Argument):
    """An integer.

    low, high   the least and the greatest
    corners     values at which something is likely to go wrong, at most 128; the two ends always are
    step        only low, low + step, low + 2 * step, ...

    >>> Number(0, 4096, corners=[8, 4088]).decode(ByteSource(bytes([1, 5, 0])))
    5
    >>> Number(0, 4096, corners=[8, 4088]).decode(ByteSource(bytes([2])))
    4088
    """

    def __init__(self, low: int, high: int, *, corners: Sequence[int] = (), step: int = 1) -> None:
        self.low, self.high, self.step = low, high, step
        self.corners = tuple(dict.fromkeys((*corners, low, high)))
        if (
            low > high
            or step < 1
            or len(self.corners) > MOST_CORNERS
            or not all(map(self._has, self.corners))
        ):
            raise CallerError(
                f"no number is from {low} to {high} by {step} and has {len(self.corners)} corners within",
                argument="corners",
                value=self.corners,
                limit=MOST_CORNERS,
            )
        self._count = (high - low) // step + 1
        self._width = max(1, ((self._count - 1).bit_length() + 7) // 8)

    def decode(self, source: ByteSource) -> int:
        selector = source.number()
        if selector & 1 == CORNER:
            return self.corners[(selector >> 1) % len(self.corners)]
        return self.low + self.step * (source.number(self._width) % self._count)

    def encode(self, value: int) -> bytes:
        if isinstance(value, bool) or not isinstance(value, int) or not self._has(value):
            raise self.refuse(value, (self.low, self.high))
        if value in self.corners:
            return bytes([self.corners.index(value) << 1 | CORNER])
        return bytes([WRITTEN_OUT]) + ((value - self.low) // self.step).to_bytes(self._width, "little")

    def simpler(self, value: int) -> Iterator[int]:
        """Nearer and nearer to the value, from the low end on.

        >>> list(Number(0, 100).simpler(10))
        [0, 5, 8, 9]
        """
        steps = (value - self.low) // self.step
        while steps:
            yield value - steps * self.step
            steps //= 2

    def rank(self, value: int) -> int:
        return value - self.low

    def _has(self, value: int) -> bool:
        return self.low <= value <= self.high and (value - self.low) % self.step == 0

    def __repr__(self) -> str:
        step = f", step={self.step}" if self.step > 1 else ""
        return f"Number({self.low}, {self.high}{step})"


class Flag(Argument):
    """True or False."""

    def decode(self, source: ByteSource) -> bool:
        return bool(source.number() & 1)

    def encode(self, value: bool) -> bytes:
        if not isinstance(value, bool):
            raise self.refuse(value, (False, True))
        return bytes([value])

    def simpler(self, value: bool) -> Iterator[bool]:
        return iter((False,) if value else ())

    def rank(self, value: bool) -> int:
        return int(value)

    def __repr__(self) -> str:
        return "Flag()"


class Choice(Argument):
    """One of some strings or numbers, 256 at most."""

    def __init__(self, *values: str | int) -> None:
        if not 1 <= len(values) <= 256:
            raise CallerError(
                f"a choice of {len(values)} values", argument="values", value=len(values), limit=(1, 256)
            )
        self.values = values

    def decode(self, source: ByteSource) -> str | int:
        return self.values[source.number() % len(self.values)]

    def encode(self, value: str | int) -> bytes:
        if value not in self.values:
            raise self.refuse(value, self.values)
        return bytes([self.values.index(value)])

    def simpler(self, value: str | int) -> Iterator[str | int]:
        return iter(self.values[: self.values.index(value)])

    def rank(self, value: str | int) -> int:
        return self.values.index(value)

    def __repr__(self) -> str:
        return f"Choice{self.values!r}"


class Rest(Argument):
    """All the bytes that are left, up to a length: the one argument of a trial that is given raw bytes."""

    def __init__(self, longest: int = 1 << 20) -> None:
        self.longest = longest

    def decode(self, source: ByteSource) -> bytes:
        return source.rest()[: self.longest]

    def encode(self, value: bytes) -> bytes:
        if not isinstance(value, bytes) or len(value) > self.longest:
            raise self.refuse(value, self.longest)
        return value

    def to_json(self, value: bytes) -> str:
        return value.hex()

    def from_json(self, value: object) -> bytes:
        data = from_hex(self, value)
        self.encode(data)
        return data

    def simpler(self, value: bytes) -> Iterator[bytes]:
        """Shorter bytes, and then zeros in place of what is not zero."""
        length = 0
        while length < len(value):
            yield value[:length]
            length += max(1, (len(value) - length) // 2)
        if any(value):
            yield bytes(len(value))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.longest})"


class Bytes(Rest):
    """Bytes, up to 255 of them; where more are wanted let a number say how many and `pattern` make them."""

    def __init__(self, longest: int = 64) -> None:
        if not 0 <= longest <= 255:
            raise CallerError(f"{longest} bytes at most", argument="longest", value=longest, limit=(0, 255))
        super().__init__(longest)

    def decode(self, source: ByteSource) -> bytes:
        return source.take(source.number() % (self.longest + 1))

    def encode(self, value: bytes) -> bytes:
        data = super().encode(value)
        return bytes([len(data)]) + data


class Listing(Argument):
    """Up to `longest` (255 at most) values of one kind, as a tuple."""

    def __init__(self, item: Argument, longest: int = 8) -> None:
        if not 0 <= longest <= 255:
            raise CallerError(f"{longest} items at most", argument="longest", value=longest, limit=(0, 255))
        self.item = item
        self.longest = longest

    def decode(self, source: ByteSource) -> tuple[Any, ...]:
        return tuple(self.item.decode(source) for _ in range(source.number() % (self.longest + 1)))

    def encode(self, value: Sequence[Any]) -> bytes:
        if not isinstance(value, tuple | list) or len(value) > self.longest:
            raise self.refuse(value, self.longest)
        return bytes([len(value)]) + b"".join(map(self.item.encode, value))

    def to_json(self, value: Sequence[Any]) -> list[Any]:
        return [self.item.to_json(item) for item in value]

    def from_json(self, value: object) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > self.longest:
            raise self.refuse(value, self.longest)
        return tuple(self.item.from_json(item) for item in value)

    def simpler(self, value: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        items = tuple(value)
        for number, item in enumerate(items):
            yield (*items[:number], *items[number + 1 :])
            for simpler in self.item.simpler(item):
                yield (*items[:number], simpler, *items[number + 1 :])

    def rank(self, value: Sequence[Any]) -> tuple[Any, ...]:
        return (len(value), *map(self.item.rank, value))

    def __repr__(self) -> str:
        return f"Listing({self.item!r}, {self.longest})"


def from_hex(argument: Argument, value: object) -> bytes:
    """Bytes that JSON has as a string of hexadecimal digits."""
    if isinstance(value, str):
        try:
            return bytes.fromhex(value)
        except ValueError:
            pass
    raise argument.refuse(value, "hexadecimal digits")
