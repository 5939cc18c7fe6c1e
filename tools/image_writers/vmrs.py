"""Writes Hyper-V saved states, and the containers they are in, for tests and samples: an own reading of the format.
Nothing is shared with what reads them.

    hyperv_storage({"/savedstate/VmVersion": 0xA00, ...})     a container with these keys
    saved_state([(0x1000, data), ...])                        one with memory
    resealed(data)                                            one that was changed, with right checksums again
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "Unsigned",
    "compressed_block",
    "context_channels",
    "context_gpadl",
    "hyperv_storage",
    "lz77",
    "memory_block",
    "resealed",
    "saved_state",
]

ALIGNMENT = 4096
MIB = 1 << 20
ENTRIES = 227
LARGEST_INLINE = 2047


class Unsigned(int):
    """A number to be written as one without a sign."""


def number(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def up(size: int) -> int:
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def sealed(data: bytes, place: int) -> bytes:
    """`data` with its checksum, CRC-32 with the checksum as zeros, at `place`."""
    blank = data[:place] + bytes(4) + data[place + 4 :]
    return blank[:place] + number(zlib.crc32(blank), 4) + blank[place + 4 :]


# -- the container ---------------------------------------------------------------------------------


def hyperv_storage(
    keys: Mapping[str, object],
    *,
    sequences: tuple[int, int] = (1, 0),
    version: int = 0x400,
    table_size: int = ALIGNMENT,
    replay_entries: int = 0,
    largest_inline: int = LARGEST_INLINE,
) -> bytes:
    """A container with keys by their path; a value of None is a node, and nodes above others come by themselves.

    sequences        of the two copies of the file header
    table_size       bytes of a key table; when one is full, the next is begun
    replay_entries   how many changes its replay log says were not finished
    largest_inline   longer strings and arrays are file objects
    """
    values = with_nodes(keys)
    large = {path: data for path, value in values.items() if len(data := payload(value)) > largest_inline}
    tables = key_tables(values, dict.fromkeys(large, 0), table_size)
    first_table = 3 * ALIGNMENT
    replay_log = first_table + table_size * len(tables)
    entries = [(2, first_table + table_size * place, table_size) for place in range(len(tables))]
    at = replay_log + ALIGNMENT
    places = {}
    for path, data in large.items():
        places[path] = at
        entries.append((3, at, up(len(data))))
        at += up(len(data))
    chained = [at + ALIGNMENT * place for place in range((max(len(entries) - 1, 0)) // (ENTRIES - 1))]
    image = bytearray(at + ALIGNMENT * len(chained))

    for copy, sequence in enumerate(sequences):
        put(image, ALIGNMENT * copy, file_header(sequence, version, replay_log))
    for place, table in enumerate([2 * ALIGNMENT, *chained]):
        following = chained[place] if place < len(chained) else 0
        put(image, table, object_table(entries[place * (ENTRIES - 1) :][: ENTRIES - 1], following))
    for place, data in enumerate(key_tables(values, places, table_size)):
        put(image, first_table + table_size * place, data)
    log = (
        number(0x01110003, 4) + bytes(4) + number(replay_entries, 4) + bytes(1) + number(0x91, 4) + bytes(17)
    )
    put(image, replay_log, sealed(log, 4))
    for path, data in large.items():
        put(image, places[path], data)
    return bytes(image)


def put(image: bytearray, place: int, data: bytes) -> None:
    image[place : place + len(data)] = data


def file_header(sequence: int, version: int, replay_log: int) -> bytes:
    fields = [(0x01282014, 4), (0, 4), (sequence, 2), (version, 4), (0, 4), (0, 4), (ALIGNMENT, 4)]
    fields += [(replay_log, 8), (ALIGNMENT, 8), (ALIGNMENT, 4)]
    return sealed(b"".join(number(value, size) for value, size in fields), 4)


def object_table(entries: Sequence[tuple[int, int, int]], following: int) -> bytes:
    """A table with all its entries; the last leads to the following one, where there is one."""
    rows = [object_entry(*entry, 1) for entry in entries]
    rows += [object_entry(0, 0, 0, 0)] * (ENTRIES - 1 - len(rows))
    rows += [object_entry(1, following, ALIGNMENT, 1) if following else object_entry(0, 0, 0, 0)]
    return number(0x01110001, 4) + number(ENTRIES, 4) + b"".join(rows)


def object_entry(kind: int, place: int, size: int, flags: int) -> bytes:
    return sealed(number(kind, 1) + bytes(4) + number(place, 8) + number(size, 4) + number(flags, 1), 1)


# -- keys ------------------------------------------------------------------------------------------


def with_nodes(keys: Mapping[str, object]) -> dict[str, object]:
    """The keys, and before each the nodes above it."""
    values: dict[str, object] = {}
    for path, value in keys.items():
        names = path.split("/")[1:]
        for depth in range(1, len(names)):
            values.setdefault("/" + "/".join(names[:depth]), None)
        values[path] = value
    return values


def key_tables(values: Mapping[str, object], places: Mapping[str, int], table_size: int) -> list[bytes]:
    """All key tables; `places` are the file objects of the values that are not in them."""
    tables: list[bytes] = [table_header(1)]
    last = 0
    where: dict[str, tuple[int, int]] = {"": (0, 0)}
    for sequence, (path, value) in enumerate(values.items(), start=1):
        above, _, name = path.rpartition("/")
        entry = key_entry(name, value, where[above], sequence, places.get(path))
        if len(tables[-1]) + len(entry) > table_size:
            tables[-1] = filled(tables[-1], table_size, last)
            tables.append(table_header(len(tables) + 1))
        last = len(tables[-1])
        where[path] = (len(tables), len(tables[-1]))
        tables[-1] += entry
    return [*tables[:-1], filled(tables[-1], table_size, last)]


def table_header(place: int) -> bytes:
    return sealed(number(2, 2) + number(place, 2) + number(1, 2) + bytes(4), 6)


def filled(table: bytes, table_size: int, last: int) -> bytes:
    """A table with a free entry up to its end; where none fits, the last entry, at `last`, has the rest as padding."""
    rest = table_size - len(table)
    if rest > 21:
        return table + number(1, 1) + bytes(1) + number(rest, 4) + bytes(rest - 6)
    entry = bytearray(table[last:])
    put(entry, 2, number(len(entry) + rest, 4))
    return table[:last] + sealed(bytes(entry), 12) + bytes(rest)


def key_entry(name: str, value: object, parent: tuple[int, int], sequence: int, place: int | None) -> bytes:
    text = name.encode() + b"\0"
    data = payload(value)
    if place is not None:
        content = number(len(data), 4) + number(place, 8)
    elif isinstance(value, (str, bytes)):
        content = number(len(data), 4) + data
    else:
        content = data
    size = 21 + len(text) + len(content)
    head = number(kind_of(value), 1) + number(int(place is not None), 1) + number(size, 4)
    head += (
        number(parent[0], 2) + number(parent[1], 4) + bytes(4) + number(sequence, 4) + number(len(text), 1)
    )
    return sealed(head + text + content, 12)


def kind_of(value: object) -> int:
    if value is None:
        return 9
    for kind, number_of in ((bool, 8), (Unsigned, 4), (int, 3), (float, 5), (str, 6), (bytes, 7)):
        if isinstance(value, kind):
            return number_of
    raise TypeError(type(value))


def payload(value: object) -> bytes:
    """The bytes of a value; of a string and an array without its length."""
    if value is None:
        return bytes(12)
    if isinstance(value, bool):
        return number(int(value), 4)
    if isinstance(value, int):
        return (value % 2**64).to_bytes(8, "little")
    if isinstance(value, float):
        import struct

        return struct.pack("<d", value)
    return value.encode("utf-16-le") + bytes(2) if isinstance(value, str) else bytes(value)  # type: ignore[call-overload]


def resealed(image: bytes) -> bytes:
    """A container with all its checksums made right, as far as its tables can be followed."""
    made = bytearray(image)

    def seal(place: int, size: int, at: int) -> None:
        if place + size <= len(made):
            made[place : place + size] = sealed(bytes(made[place : place + size]), at)

    seal(0, 46, 4)
    seal(ALIGNMENT, 46, 4)
    seal(int.from_bytes(made[26:34], "little"), 34, 4)
    table = 2 * ALIGNMENT
    for entry in range(table + 8, min(table + 8 + 18 * ENTRIES, len(made) - 18), 18):
        seal(entry, 18, 1)
        if made[entry] == 2:
            place = int.from_bytes(made[entry + 5 : entry + 13], "little")
            end = min(place + int.from_bytes(made[entry + 13 : entry + 17], "little"), len(made))
            seal(place, 10, 6)
            place += 10
            while place + 21 < end:
                size = int.from_bytes(made[place + 2 : place + 6], "little")
                if size < 21:
                    break
                if made[place] != 1:
                    seal(place, min(key_size(made, place), size), 12)
                place += size
    return bytes(made)


def key_size(image: bytes, place: int) -> int:
    """What the checksum of a key's entry is over: all but the padding."""
    data = place + 21 + image[place + 20]
    if image[place + 1] & 1:
        return data + 12 - place
    if image[place] in (6, 7):
        return data + 4 + int.from_bytes(image[data : data + 4], "little") - place
    return data + {3: 8, 4: 8, 5: 8, 8: 4, 9: 12}.get(image[place], MIB) - place


# -- memory ----------------------------------------------------------------------------------------


def saved_state(
    regions: Sequence[tuple[int, bytes]],
    *,
    compress: Callable[[bytes], bytes] | None = None,
    without: Sequence[int] = (),
    more: Mapping[str, object] | None = None,
    version: int | None = 0xA00,
    **options: object,
) -> bytes:
    """A saved state with memory; each region, of whole pages, is a memory block and begins a data block.

    compress   what makes a data block of 1 MiB smaller; where it does not, the block is stored
    without    data blocks that are left out
    more       more keys; one with the path of another replaces it
    version    of the VM; None leaves it out
    """
    keys: dict[str, object] = {}
    if version is not None:
        keys["/configuration/properties/version"] = version
        keys["/savedstate/VmVersion"] = version
    keys["/savedstate/type"] = "Normal"
    blocks: list[bytes] = []
    for place, (address, data) in enumerate(regions):
        first = 256 * len(blocks)
        keys[f"/savedstate/RamMemoryBlock{place}"] = memory_block(address // 4096, len(data) // 4096, first)
        padded = data + bytes(-len(data) % MIB)
        blocks += [padded[at : at + MIB] for at in range(0, len(padded), MIB)]
    for place, block in enumerate(blocks):
        if place not in without:
            packed = compress(block) if compress else block
            keys[f"/savedstate/RamBlock{place}"] = packed if len(packed) < MIB else block
    return hyperv_storage({**keys, **(more or {})}, **options)  # type: ignore[arg-type]


def memory_block(first_page: int, pages: int, saved_index: int, *, version: int = 3) -> bytes:
    """The value of a key RamMemoryBlock."""
    fields = [(version, 4), (0, 4), (pages, 8), (saved_index, 8), (first_page, 8), (0, 4), (0, 4), (0, 8)]
    return b"".join(number(value, size) for value, size in fields)


def compressed_block(block: bytes) -> bytes:
    """A block of 1 MiB by tags: pages of one pattern, runs of zero pages, compressed and stored ones."""
    out = b""
    pages = [block[at : at + 4096] for at in range(0, len(block), 4096)]
    at = 0
    while at < len(pages):
        page = pages[at]
        zeros = 0
        while at + zeros < len(pages) and not any(pages[at + zeros]):
            zeros += 1
        if zeros:
            out += number(0xFFFFFFFD, 4) + bytes(8) + number(zeros, 4)
            at += zeros
            continue
        at += 1
        if page == page[:8] * 512:
            out += number(0xFFFFFFFE, 4) + page[:8]
            continue
        small = lz77(tokens_of(page))
        out += number(len(small), 4) + small if len(small) < 4096 else number(4096, 4) + page
    return out + number(0xFFFFFFFF, 4)


def tokens_of(data: bytes) -> list[int | tuple[int, int]]:
    """Data as bytes, and as repeats of what came before: distance and length."""
    tokens: list[int | tuple[int, int]] = []
    seen: dict[bytes, int] = {}
    at = 0
    while at < len(data):
        key = data[at : at + 4]
        before = seen.get(key, -1)
        seen[key] = at
        length = 0
        if before >= 0 and at - before <= 8192:
            while at + length < len(data) and data[before + length] == data[at + length]:
                length += 1
        if length >= 4:
            tokens.append((at - before, length))
            at += length
        else:
            tokens.append(data[at])
            at += 1
    return tokens


def lz77(tokens: Sequence[int | tuple[int, int]]) -> bytes:
    """Plain LZ77 of XPRESS: a word of flags before every 32 tokens, its highest bit for the first of them."""
    out = bytearray()
    flags_at, used, flags = 0, 32, 0
    half: int | None = None
    for token in [*tokens, None]:
        if used == 32:
            if out:
                put(out, flags_at, number(flags, 4))
            flags_at, used, flags = len(out), 0, 0
            out += bytes(4)
        if token is None:
            break
        if isinstance(token, int):
            out.append(token)
        else:
            flags |= 1 << (31 - used)
            half = add_match(out, *token, half)
        used += 1
    flags |= (1 << (32 - used)) - 1
    put(out, flags_at, number(flags, 4))
    return bytes(out)


def add_match(out: bytearray, distance: int, length: int, half: int | None) -> int | None:
    """Append one match; `half` is the place of a byte whose upper half is free, as is what comes back."""
    rest = length - 3
    out += number((distance - 1) << 3 | min(rest, 7), 2)
    if rest < 7:
        return half
    rest -= 7
    if half is None:
        half = len(out)
        out.append(min(rest, 15))
        following: int | None = half
    else:
        out[half] |= min(rest, 15) << 4
        following = None
    if rest >= 15:
        rest -= 15
        if rest < 255:
            out.append(rest)
        else:
            whole = rest + 22
            out += b"\xff" + (number(whole, 2) if whole < 65536 else bytes(2) + number(whole, 4))
    return following


# -- VMBus -----------------------------------------------------------------------------------------


def context_channels(
    records: Sequence[tuple[int, bytes, bytes, int, int]], *, record_size: int = 64
) -> bytes:
    """VmbusContext1: channel id, class and instance, ring GPADL, and the page of the second ring, of each."""
    out = number(1, 4) + number(0, 4) + number(record_size * len(records), 8)
    for channel, interface, instance, gpadl, second in records:
        record = number(record_size, 4) + number(channel, 4) + interface + instance + number(gpadl, 4)
        out += (record + number(second, 4)).ljust(record_size, b"\0")
    return out


def context_gpadl(place: int, gpadl: int, channel: int, pages: Sequence[int], *, ranges: int = 1) -> bytes:
    """VmbusContext2 and those that follow: the pages of one GPADL."""
    head = number(place, 4) + number(0, 4) + number(32 + 8 * len(pages), 8)
    body = (
        number(gpadl, 4) + number(channel, 4) + number(ranges, 2) + number(8 + 8 * len(pages), 2) + bytes(12)
    )
    body += number(4096 * len(pages), 4) + number(0, 4)
    return head + body + b"".join(number(page, 8) for page in pages)
