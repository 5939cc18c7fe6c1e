"""Stores on their way: the buffer of each explored side, and the memory behind both.

A store goes into the side's own buffer and becomes visible later; a load finds the newest store of its
own buffer, or else what is visible.  A fence waits until the own buffer is empty.  Which store of a
buffer may become visible next is what makes two machines of one:

    StoreBuffer   total store order, as on x86-64: the oldest, and no other
    LooseBuffer   partial store order: any that overtakes no store to the same place, and no barrier.
                  A release is a barrier in the buffer; it does not wait, so it is no fence

Everything here is made once for each value that it can have and then compared by what it is.

Sources: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3, 9.2 (memory
ordering); P. Sewell et al., x86-TSO: a rigorous and usable programmer's model, CACM 53(7), 2010; The
SPARC Architecture Manual, version 8, appendix K (PSO and its store barrier).
"""

from __future__ import annotations

__all__ = ["BARRIER", "LooseBuffer", "Memory", "Store", "StoreBuffer"]


class Store:
    """A store of a word or of bytes, on its way through a buffer.

    sets, keeps   what becoming visible sets and leaves of the bits of a state
    """

    __slots__ = ("area", "data", "keeps", "name", "offset", "sets", "value", "word")

    def __init__(self, name: str, word: int, value: int, area: int, offset: int, data: bytes) -> None:
        self.name = name
        self.word = word
        self.value = value
        self.area = area
        self.offset = offset
        self.data = data
        self.sets = 0
        self.keeps = -1

    def overlaps(self, other: Store) -> bool:
        """Whether two stores have a word or a byte in common."""
        if self.word >= 0 or other.word >= 0:
            return self.word == other.word
        return (
            self.area == other.area
            and self.offset < other.offset + len(other.data)
            and other.offset < self.offset + len(self.data)
        )


#: Lies in a LooseBuffer between the stores before a release and those behind it.
BARRIER = Store("barrier", -1, 0, -1, 0, b"")


class StoreBuffer:
    """The stores of one side that only that side sees, oldest first.

    newest   of each word that is stored here, the value that its owner sees
    """

    __slots__ = ("_found", "_known", "_pushed", "newest", "stores")

    def __init__(self, stores: tuple[Store, ...], known: dict[tuple[Store, ...], StoreBuffer]) -> None:
        self.stores = stores
        self.newest = {store.word: store.value for store in stores if store.word >= 0}
        self._known = known
        self._pushed: dict[Store, StoreBuffer] = {}
        self._found: tuple[tuple[Store, StoreBuffer], ...] | None = None
        known[stores] = self

    @property
    def choices(self) -> tuple[tuple[Store, StoreBuffer], ...]:
        """Each store that may become visible next, and the buffer that is then left."""
        if self._found is None:
            self._found = self._choices()
        return self._found

    def _choices(self) -> tuple[tuple[Store, StoreBuffer], ...]:
        return ((self.stores[0], self.of(self.stores[1:])),) if self.stores else ()

    def of(self, stores: tuple[Store, ...]) -> StoreBuffer:
        """The buffer that holds these."""
        return self._known.get(stores) or type(self)(stores, self._known)

    def push(self, store: Store) -> StoreBuffer:
        pushed = self._pushed.get(store)
        if pushed is None:
            pushed = self._pushed[store] = self.of((*self.stores, store))
        return pushed

    def over(self, area: int, data: bytes, offset: int) -> bytes:
        """`data`, read at `offset` of `area`, as the owner of this buffer sees it."""
        seen: bytearray | None = None
        for store in self.stores:
            start = max(store.offset, offset)
            end = min(store.offset + len(store.data), offset + len(data))
            if store.area == area and start < end:
                seen = bytearray(data) if seen is None else seen
                seen[start - offset : end - offset] = store.data[start - store.offset : end - store.offset]
        return data if seen is None else bytes(seen)


class LooseBuffer(StoreBuffer):
    """A buffer whose stores overtake each other, but for those to one place and those at a barrier."""

    __slots__ = ()

    def _choices(self) -> tuple[tuple[Store, StoreBuffer], ...]:
        found = []
        for at, store in enumerate(self.stores):
            if store is BARRIER:
                break
            if not any(store.overlaps(earlier) for earlier in self.stores[:at]):
                found.append((store, self.of((*self.stores[:at], *self.stores[at + 1 :]))))
        return tuple(found)

    def of(self, stores: tuple[Store, ...]) -> StoreBuffer:
        """As before; a barrier that nothing stands before keeps nothing back and is left out."""
        known = self._known.get(stores)
        if known is None:
            kept = [
                store
                for before, store in zip((BARRIER, *stores), stores, strict=False)
                if not (before is BARRIER and store is BARRIER)
            ]
            known = super().of(tuple(kept))
            self._known[stores] = known
        return known


class Memory:
    """The visible value of every word and area."""

    __slots__ = ("_after", "_known", "areas", "values")

    def __init__(
        self,
        values: tuple[int, ...],
        areas: tuple[bytes, ...],
        known: dict[tuple[tuple[int, ...], tuple[bytes, ...]], Memory],
    ) -> None:
        self.values = values
        self.areas = areas
        self._known = known
        self._after: dict[Store, Memory] = {}
        known[values, areas] = self

    def after(self, store: Store) -> Memory:
        """This memory once the store is visible."""
        memory = self._after.get(store)
        if memory is None:
            values, areas = self.values, self.areas
            if store.word >= 0:
                values = (*values[: store.word], store.value, *values[store.word + 1 :])
            else:
                old = areas[store.area]
                new = old[: store.offset] + store.data + old[store.offset + len(store.data) :]
                areas = (*areas[: store.area], new, *areas[store.area + 1 :])
            memory = self._known.get((values, areas)) or Memory(values, areas, self._known)
            self._after[store] = memory
        return memory
