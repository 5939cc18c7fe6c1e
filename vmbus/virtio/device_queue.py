"""The device's side of a virtqueue: set up as a driver asks, then chains come and go.

A transport sets a queue up from the driver's register writes: size, three addresses, `ready`.  From
then on `pop_descriptor_chain` takes what the driver has made available and `add_used` gives it back.
Nothing here waits or notifies: methods say whether the driver must be notified.

Sources: OASIS VIRTIO 1.2, sections 2.6 to 2.8 and 4.1.4.3; rust-vmm virtio-queue, Queue and
QueueState.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

from vmbus.errors import CallerError, PeerError
from vmbus.memory import AddressError, QueueMemory

from .chains import ChainRules, DescriptorChain, Tolerance
from .device_ring import DeviceRing, HeldChain
from .faults import VirtqueueFault
from .features import (
    check_features,
    check_memory,
    check_start,
    first_position,
    has_event_idx,
    has_indirect,
    is_packed,
)
from .layout import QueueAreas, VirtioFeatures, check_queue_size
from .packed_device import PackedDeviceRing
from .queue_state import (
    QueueState,
    check_addresses_set,
    check_areas,
    check_held,
    check_longest,
    check_position,
    with_halves,
)
from .split_device import SplitDeviceRing

__all__ = ["DeviceQueue"]


class DeviceQueue:
    """One queue, split or packed by `features`, from the device's side.

    memory          what driver and device share, by the device's addresses
    max_size        the most descriptors that the device allows; the size until the driver sets one
    features        those that were negotiated; may be set until the queue is ready
    longest_chain   the most descriptors of one chain; None: as many as the queue has
    tolerated       what drivers of the field do against the standard, and this device lets pass

    For one thread at a time.

    Raises CallerError for a size no queue can have.

    >>> from vmbus.virtio import connected_virtqueues
    >>> driver, device = connected_virtqueues(request_size=16)
    >>> def prepare(place, add_descriptor):
    ...     place.data[:5] = b"hello"
    ...     add_descriptor(place.address, 5)
    ...     add_descriptor(place.address + 8, 8, from_dev=True)
    >>> request_id = driver.add_request(prepare)
    >>> chain = device.pop_descriptor_chain()
    >>> device.add_used(chain.head_index, chain.write_all(chain.read_all().upper()))
    >>> next(driver.completions()).request[8:]
    b'HELLO\\x00\\x00\\x00'
    """

    def __init__(
        self,
        memory: QueueMemory,
        max_size: int = 256,
        features: int = VirtioFeatures.VERSION_1,
        *,
        longest_chain: int | None = None,
        tolerated: int = Tolerance(0),
    ) -> None:
        check_memory(memory)
        check_queue_size(max_size, packed=is_packed(features))
        self.memory = memory
        self._max_size = max_size
        self._longest_chain = max_size if longest_chain is None else check_longest(longest_chain)
        self._tolerated = tolerated
        self._start_over(features)

    # -- setting up ----------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget the driver: not ready, the largest size, no addresses, no feature but VERSION_1."""
        self._start_over(VirtioFeatures.VERSION_1)

    def _start_over(self, features: int) -> None:
        self._ring: DeviceRing | None = None
        self._ready = False
        self._size = self._max_size
        self._areas = QueueAreas(0, 0, 0)
        self.features = VirtioFeatures(features)

    @property
    def features(self) -> VirtioFeatures:
        """The features that were negotiated.  Setting them puts the queue back to its start."""
        return self._features

    @features.setter
    def features(self, features: int) -> None:
        self._check_stopped("features")
        check_features(features)
        self._features = VirtioFeatures(features)
        self._next_avail = self._next_used = first_position(features)
        self._held: tuple[tuple[int, HeldChain], ...] = ()
        self._going_on = False  # whether chains may have been used that the driver was not told of

    @property
    def max_size(self) -> int:
        """The most descriptors that the device allows."""
        return self._max_size

    @property
    def size(self) -> int:
        """Descriptors of the queue."""
        return self._size

    def set_size(self, size: int) -> None:
        """Take the driver's size; CallerError, and the old one stays, when no queue can have it here."""
        self._check_stopped("size")
        self._size = check_queue_size(size, packed=is_packed(self._features), largest=self._max_size)

    @property
    def areas(self) -> QueueAreas:
        """The three addresses that the driver has set."""
        return self._areas

    def set_desc_table_address(self, low: int | None = None, high: int | None = None) -> None:
        """Take one half or both of the descriptor table's address; the other half stays.

        Raises CallerError, and the old address stays, when it is no multiple of 16.
        """
        self._set_area("descriptor_table", low, high)

    def set_avail_ring_address(self, low: int | None = None, high: int | None = None) -> None:
        """Likewise the driver area's: a multiple of 2, in a packed queue of 4."""
        self._set_area("driver_area", low, high)

    def set_used_ring_address(self, low: int | None = None, high: int | None = None) -> None:
        """Likewise the device area's: a multiple of 4."""
        self._set_area("device_area", low, high)

    def set_up(self, areas: QueueAreas, *, start: int | None = None) -> None:
        """Take all three addresses and make the queue ready, as a transport does in many steps.

        start   where it begins, as for Virtqueue
        """
        self._check_stopped("areas")
        position = first_position(self._features)
        if start is not None:
            position = check_start(start, self._size, self._features)
        check_addresses_set(areas)
        self._areas = check_areas(areas, is_packed(self._features))
        self._next_avail = self._next_used = position
        self._held, self._going_on = (), False
        self.set_ready(True)

    def _set_area(self, name: str, low: int | None, high: int | None) -> None:
        address = with_halves(getattr(self._areas, name), low, high)
        self._check_stopped(name)
        self._areas = check_areas(self._areas._replace(**{name: address}), is_packed(self._features))

    @property
    def next_avail(self) -> int:
        """Where the next chain is taken: an index, or a slot with its wrap counter in bit 15."""
        return self._next_avail if self._ring is None else self._ring.next_avail

    @property
    def next_used(self) -> int:
        """Where the next chain is given back, likewise."""
        return self._next_used if self._ring is None else self._ring.next_used

    @property
    def ready(self) -> bool:
        """Whether the driver has set the queue up and not stopped it since."""
        return self._ready

    def set_ready(self, ready: bool) -> None:
        """Start the queue where it stands, or stop it there.

        An area outside the memory is no error yet: `is_valid` tells, and the first use raises
        PeerError.  Raises CallerError when no addresses were set, and when the two positions cannot
        be those of one queue.
        """
        if ready == self._ready:
            return
        if ready:
            check_addresses_set(self._areas)
            check_areas(self._areas, is_packed(self._features))
            check_queue_size(self._size, packed=is_packed(self._features))
            self._ring = self._make_ring()
            if self._ring is not None and self._going_on:
                self._ring.go_on()
        else:
            if self._ring is not None:
                self._ring.settle()
            self._going_on = True
            self._next_avail, self._next_used, self._held = (
                self.next_avail,
                self.next_used,
                self._held_chains(),
            )
            self._ring = None
        self._ready = ready

    def _make_ring(self) -> DeviceRing | None:
        """The ring that the settings describe; None when it is not in memory."""
        longest = min(self._size, self._longest_chain)
        rules = ChainRules(self._size, longest, has_indirect(self._features), int(self._tolerated))
        kind = PackedDeviceRing if is_packed(self._features) else SplitDeviceRing
        try:
            return kind(
                self.memory,
                self._areas,
                rules,
                has_event_idx(self._features),
                self._next_avail,
                self._next_used,
                dict(self._held),
            )
        except AddressError:
            return None

    def is_valid(self) -> bool:
        """Whether the queue is ready and its areas are in memory, each inside one region."""
        return self._ring is not None

    def state(self) -> QueueState:
        """All that `from_state` needs, with the same memory, to go on from here.

        What this device lets pass (`longest_chain`, `tolerated`) is not in it, nor are the buffers of
        chains that were popped and not yet used: use them or go back first.  Nor whether the driver was
        told of what was used: the queue that goes on takes it for not told.
        """
        if self._ring is not None:
            self._ring.settle()
        return QueueState(
            self._max_size,
            self._size,
            self._ready,
            int(self._features),
            *self._areas,
            self.next_avail,
            self.next_used,
            self._held_chains(),
        )

    @classmethod
    def from_state(
        cls,
        memory: QueueMemory,
        state: QueueState,
        *,
        longest_chain: int | None = None,
        tolerated: int = Tolerance(0),
    ) -> DeviceQueue:
        """A queue that goes on where another has stopped.

        A state of a split queue may leave out `held`: then so many chains as lie between the two
        indices can be given back without being known.

        Raises CallerError for a state that no queue can have: it is checked like a driver's word.
        """
        queue = cls(memory, state.max_size, state.features, longest_chain=longest_chain, tolerated=tolerated)
        queue.set_size(state.size)
        queue._areas = check_areas(
            QueueAreas(state.desc_table, state.avail_ring, state.used_ring), is_packed(state.features)
        )
        queue._next_avail = check_position("next_avail", state.next_avail)
        queue._next_used = check_position("next_used", state.next_used)
        queue._held = check_held(state)
        queue._going_on = True
        queue.set_ready(state.ready)
        return queue

    def _held_chains(self) -> tuple[tuple[int, HeldChain], ...]:
        return self._held if self._ring is None else self._ring.held_now()

    def _check_stopped(self, name: str) -> None:
        if self._ready:
            raise CallerError(
                f"{name} of a queue that is ready cannot change: set_ready(False), or reset it, first",
                argument=name,
                value="ready",
                limit="not ready",
            )

    # -- working -------------------------------------------------------------------------------

    def pop_descriptor_chain(self) -> DescriptorChain | None:
        """The next chain that the driver has made available; None when there is none.

        Raises PeerError for one that must not be, naming the rule and the descriptor.  It is not
        taken, and every later call raises the error again until the queue is stopped, reset or restored;
        chains that were popped before can still be given to add_used.  CallerError when the queue
        is not ready.
        """
        ring = self._ring
        if ring is None:
            self._refuse()
        return ring.take()

    def __iter__(self) -> Iterator[DescriptorChain]:
        """The chains that are available, at most as many as the queue has descriptors.

        Before going to sleep afterwards, `enable_notification` asks to be told of the next one.
        """
        for _ in range(self._size):
            chain = self.pop_descriptor_chain()
            if chain is None:
                return
            yield chain

    def go_to_previous_position(self) -> None:
        """Undo the last pop, of a chain that has not been used: it comes again.  Several in a row will do.

        Raises CallerError when that chain has been used, or there was none.
        """
        self._working_ring().go_back()

    def add_used(self, head_index: int, length: int = 0) -> None:
        """Give a chain back to the driver.

        head_index   of the chain
        length       bytes that were written, from its first writable one on

        Raises CallerError, and does nothing, for a chain that is not the device's, and for more
        bytes than it has room for.
        """
        ring = self._ring
        if ring is None:
            self._refuse()
        ring.give_back(head_index, length)

    def needs_notification(self) -> bool:
        """Whether the driver must be notified of what was used since this was last asked."""
        ring = self._ring
        if ring is None:
            self._refuse()
        return ring.notification_needed()

    def enable_notification(self) -> bool:
        """Ask the driver for notifications; true when chains are available already.

        Pop those before going to sleep: no notification may come for them.  This is due before every
        sleep: with RING_EVENT_IDX it asks for one notification, of the next chain.
        """
        return self._working_ring().enable_notification()

    def disable_notification(self) -> None:
        """Ask the driver to be silent.

        In a split queue with RING_EVENT_IDX there is no such wish: the driver goes silent by itself,
        once it has notified of what it was last asked for.
        """
        self._working_ring().disable_notification()

    def _working_ring(self) -> DeviceRing:
        return self._ring or self._refuse()

    def _refuse(self) -> NoReturn:
        if not self._ready:
            raise CallerError(
                "this queue is not ready: the driver has not set it up, or has stopped it",
                argument="self",
                value="not ready",
                limit="ready",
            )
        sizes = QueueAreas.sizes(self._size, packed=is_packed(self._features))
        places = ", ".join(
            f"{length} bytes at {address:#x}" for address, length in zip(self._areas, sizes, strict=True)
        )
        raise PeerError(
            f"the driver has put the queue where there is no memory: each of {places} must be inside one "
            "region",
            kind=VirtqueueFault.AREA_OUTSIDE_MEMORY,
            found=tuple(self._areas),
            allowed="mapped",
        )

    def __repr__(self) -> str:
        kind = "packed" if is_packed(self._features) else "split"
        state = "ready" if self.is_valid() else "not in memory" if self._ready else "not ready"
        return f"<DeviceQueue: {kind}, {self._size} descriptors, {state}>"
