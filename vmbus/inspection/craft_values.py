"""Values out of a document that a person or a program wrote, each with its path for the error.

A path reads as in other tools: rings[0].packets[2].length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from vmbus.errors import CallerError

__all__ = ["COMMENT", "Spec", "objects_of", "refuse", "shortened"]

#: A key that every object may have, for people; JSON has no comments of its own.
COMMENT = "comment"


def refuse(path: str, why: str, value: object = None) -> NoReturn:
    """Raise CallerError that begins with the path."""
    raise CallerError(f"{path}: {why}", argument=path, value=value)


class Spec:
    """An object of a document; a key that is null counts as one that is left out.

    value    what stands there; anything but an object with keys of `allowed` is refused
    path     where it stands; "" for the whole document
    """

    def __init__(self, value: object, path: str, allowed: Iterable[str]) -> None:
        if not isinstance(value, dict):
            refuse(path or "the document", f"is an object, not {kind_of(value)}")
        self.value: dict[str, Any] = value
        self.path = path
        known = list(allowed)
        for key in value.keys() - {COMMENT, *known}:
            unknown_key(self.at(key), key, known)

    def at(self, key: str) -> str:
        """The path of a key."""
        return f"{self.path}.{key}" if self.path else key

    def has(self, key: str) -> bool:
        """Whether something is given that is not null."""
        return self.value.get(key) is not None

    def refuse(self, key: str, why: str) -> NoReturn:
        refuse(self.at(key), why, self.value.get(key))

    def number(self, key: str, *, most: int, least: int = 0) -> int | None:
        """A whole number in a range, or None where none is given."""
        value = self.value.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            self.refuse(key, f"is a whole number, not {kind_of(value)}")
        if not least <= value <= most:
            self.refuse(key, f"is {least} to {most}, not {value}")
        return value

    def wide_number(self, key: str) -> int | None:
        """A number of 64 bits, from its key, its twin in hex, or both if they are the same."""
        most = 2**64 - 1
        number, twin = self.number(key, most=most), f"{key}_hex"
        text = self.value.get(twin)
        if text is None:
            return number
        try:
            in_hex = int(text, 16)
        except (TypeError, ValueError):
            in_hex = -1
        if not 0 <= in_hex <= most:
            self.refuse(twin, f"is a number of 64 bits in hex, such as 0x1f, not {shortened(text)}")
        if number is not None and number != in_hex:
            self.refuse(twin, f"is {in_hex}, and {key} is {number}; leave one out")
        return in_hex

    def data(self, key: str) -> bytes | None:
        """Bytes in hex, with or without spaces between them."""
        value = self.value.get(key)
        if value is None:
            return None
        try:
            return bytes.fromhex(value)
        except (TypeError, ValueError):
            self.refuse(key, f"is bytes in hex, two digits each, not {shortened(value)}")

    def items(self, key: str) -> list[Any]:
        """A list; an empty one where none is given."""
        value = self.value.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.refuse(key, f"is a list, not {kind_of(value)}")
        return value

    def agree(self, key: str, made: object, because: str) -> None:
        """Refuse a value that contradicts what the others make of it."""
        given = self.value.get(key)
        if given is None:
            return
        if type(given) is not type(made) or given != made:
            self.refuse(key, f"is {shortened(given)}, and {because} make it {shortened(made)}; leave one out")


def objects_of(spec: Spec, key: str, read: Callable[[object, str], Any]) -> list[Any]:
    """Each item of a list, read with its path."""
    return [read(value, f"{spec.at(key)}[{number}]") for number, value in enumerate(spec.items(key))]


def unknown_key(path: str, key: str, allowed: list[str]) -> NoReturn:
    from difflib import get_close_matches

    near = get_close_matches(str(key), sorted(allowed), 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(allowed)}"
    refuse(path, f"is no key here; {hint}")


def kind_of(value: object) -> str:
    """What something is in the words of JSON."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), shortened(value))


def shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
