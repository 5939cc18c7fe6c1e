"""A small trial for the tests of what drives trials: a shelf that holds so many numbers.

It can be made wrong in two ways: by a shelf that forgets 200 once it is full, and by one that falls apart.
"""

from __future__ import annotations

from vmbus.fuzzing import Bytes, Choice, Flag, Listing, Number, Trial, operation


class Shelf:
    """What is tested: numbers, first in, first out."""

    def __init__(self, room: int, flaw: str) -> None:
        self.room, self.flaw = room, flaw
        self.numbers: list[int] = []

    def put(self, number: int) -> bool:
        if len(self.numbers) == self.room:
            return False
        self.numbers.append(number)
        if len(self.numbers) == self.room and self.flaw == "forgets":
            self.numbers = [kept for kept in self.numbers if kept < 200]
        return True

    def take(self) -> int:
        if self.flaw == "falls apart" and self.numbers and self.numbers[0] > 100:
            raise ZeroDivisionError("the shelf fell")
        return self.numbers.pop(0)


class ShelfTrial(Trial):
    """Beside a list."""

    name = "shelf"
    summary = "a shelf gives back what was put on it"
    settings = {"room": Number(1, 4), "flaw": Choice("none")}  # noqa: RUF012
    CORNERS = ("full", "empty", "many at once")

    def __init__(self, room: int, flaw: str = "none") -> None:
        super().__init__()
        self.shelf = Shelf(room, flaw)
        self.room = room
        self.model: list[int] = []
        self.is_closed = False

    @operation(number=Number(0, 255, corners=[7]))
    def put(self, number: int) -> None:
        fits = len(self.model) < self.room
        self.demand_equal(self.shelf.put(number), fits, "put")
        if fits:
            self.model.append(number)
        else:
            self.corners["full"] += 1
        self.check()

    @operation()
    def take(self) -> None:
        if self.model:
            self.demand_equal(self.shelf.take(), self.model.pop(0), "what was put first")
        else:
            self.corners["empty"] += 1

    @operation(numbers=Listing(Number(0, 9), 3), backwards=Flag(), label=Bytes(4))
    def put_many(self, numbers: tuple[int, ...], backwards: bool, label: bytes) -> None:
        if len(numbers) > 1:
            self.corners["many at once"] += 1
        for number in numbers[::-1] if backwards else numbers:
            self.put(number)

    def check(self) -> None:
        self.demand_equal(len(self.shelf.numbers), len(self.model), "how many there are")

    def finish(self) -> None:
        while self.model:
            self.take()

    def close(self) -> None:
        self.is_closed = True


class ForgetfulShelfTrial(ShelfTrial):
    """One with the first flaw."""

    name = "forgetful-shelf"
    settings = {"room": Number(1, 4), "flaw": Choice("forgets")}  # noqa: RUF012


class FallingShelfTrial(ShelfTrial):
    """One with the second."""

    name = "falling-shelf"
    settings = {"room": Number(1, 4), "flaw": Choice("falls apart")}  # noqa: RUF012
