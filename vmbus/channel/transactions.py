"""Requests whose completions have not come yet, by transaction id.

The other side gives a request's id back in its completion.  0 means "no transaction" to hosts: they
ignore a wish for a completion that comes with it.  An id is used again only after its completion
has come, also when nobody waits for that any more.

Sources: Linux drivers/hv/channel.c, vmbus_next_request_id() and vmbus_request_addr().
"""

from __future__ import annotations

import logging

from vmbus.errors import CallerError
from vmbus.ring import IncomingPacketType, Packet

__all__ = ["FIRST_ID", "LARGEST_ID", "Transaction", "Transactions"]

LARGEST_ID = 2**64 - 1

#: Above what people choose by hand for packets that they send without `request`.
FIRST_ID = 2**32

log = logging.getLogger("vmbus.channel")


class Transaction:
    """One request.

    answer     its completion, once that has come
    given_up   nobody waits for it any more
    """

    __slots__ = ("answer", "given_up", "id")

    def __init__(self, id: int) -> None:
        self.id = id
        self.answer: Packet | None = None
        self.given_up = False

    def answered(self) -> bool:
        return self.answer is not None


class Transactions:
    """The outstanding requests of one channel; for one thread at a time.

    maximum    how many may be outstanding at once
    first_id   the id of the first; the others follow

    >>> transactions = Transactions(maximum=8)
    >>> request = transactions.begin()
    >>> transactions.deliver(Packet(IncomingPacketType.COMPLETION, request.id, b"done"))
    True
    >>> request.answer.payload
    b'done'
    """

    def __init__(self, maximum: int, first_id: int = FIRST_ID) -> None:
        if maximum < 1:
            raise CallerError(
                f"at least 1 request may be outstanding, not {maximum}",
                argument="maximum_outstanding",
                value=maximum,
                limit=1,
            )
        self.maximum = maximum
        self._next_id = first_id
        self._outstanding: dict[int, Transaction] = {}

    def __len__(self) -> int:
        return len(self._outstanding)

    def has_room(self) -> bool:
        return len(self._outstanding) < self.maximum

    def begin(self) -> Transaction:
        """A transaction with an id that no outstanding one has.  Only when there is room."""
        while self._next_id in self._outstanding or not 1 <= self._next_id <= LARGEST_ID:
            self._next_id = self._next_id + 1 if self._next_id < LARGEST_ID else 1
        transaction = Transaction(self._next_id)
        self._outstanding[transaction.id] = transaction
        self._next_id += 1
        return transaction

    def deliver(self, packet: Packet) -> bool:
        """Give a completion to its request; False for every packet that answers none."""
        if packet.type is not IncomingPacketType.COMPLETION:
            return False
        transaction = self._outstanding.pop(packet.transaction_id, None)
        if transaction is None:
            return False
        transaction.answer = packet
        if transaction.given_up:
            log.info("the completion of request %#x came after it was given up", transaction.id)
        return True

    def forget(self, transaction: Transaction) -> None:
        """The request was never sent: its id is free."""
        self._outstanding.pop(transaction.id, None)

    def check_unused(self, transaction_id: int) -> None:
        """Raise CallerError for an id that an outstanding request has."""
        if transaction_id in self._outstanding:
            raise CallerError(
                f"transaction id {transaction_id:#x} belongs to a request whose completion has not come: "
                f"choose one below {FIRST_ID:#x}",
                argument="transaction_id",
                value=transaction_id,
                limit=FIRST_ID - 1,
            )
