"""One side of an exploration: ordinary code, stopped before each step that can be seen from outside.

The code of a side is a function of the values that it loaded.  So what it will do next is named by
those values, its history, and needs no thread: to go on from a history, run the code from its start,
answer each question as before, and stop it at the first that has no answer yet.  The histories of one
side form a tree; each of its nodes is found out once.

Stores, and all else that the other side cannot notice at once, need no answer.  They are noted with
the node that they lead to.

Limits.  The code must do the same again when it gets the same answers: no clock, no random numbers, no
threads of its own.  Where it does not, the exploration ends with a CallerError; of a thread that the code
does not wait for, nobody but that thread may come to know.

The code is stopped by an exception.  Where it catches that and goes on for ever, it gets a CallerError in
its place.  Code that swallows that as well, again and again, or that loops without touching what is shared,
cannot be ended: the exploration then hangs, as the code would by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import suppress
from threading import get_ident
from typing import Any, NoReturn

from vmbus.errors import CallerError

from .buffers import Store
from .shared import World
from .steps import BEGIN, CLOSE, END, FAILED, FENCE, NOTIFY, POLL, WAIT, Act, ActKind, Question, StepKind

__all__ = ["Node", "Script", "Side", "Tree"]

#: What a side does before it asks the next question: far more than any ring does.
MOST_ACTS = 10_000

#: How often the code of a side may catch what stops it and go on.
MOST_STOPS = 1_000

#: Begins the names of the files of this package, whose code no side's author has to look at.
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class Stop(BaseException):
    """Ends a run at the first question without an answer.  Whoever catches it meets it again, so many times."""


Script = Callable[["Side"], object]


class Side:
    """What the code of one side may do; each method but the stores is a step.

    A script is a function of one of these.  Where it is a generator function, what it does before its
    `yield`, of which it has one, is done alone, before anything is explored: the left side first, then
    the right.
    """

    def __init__(self, answers: list[Any], expected: list[Question], loose: bool = False) -> None:
        self._answers = answers
        self._expected = expected
        self._loose = loose
        self._asked = 0
        self._stops = 0
        self._thread = get_ident()
        self.question: Question | None = None
        self.acts: list[Act] = []
        self.misuse: CallerError | None = None

    # -- steps -------------------------------------------------------------------------------

    def load(self, word: str) -> int:
        """The value of a word, as this side sees it now."""
        return self.ask(Question(StepKind.LOAD, word))  # type: ignore[no-any-return]

    def read(self, area: str, offset: int, length: int) -> bytes:
        """Bytes of an area, as this side sees them now."""
        return self.ask(Question(StepKind.READ, area, offset, length))  # type: ignore[no-any-return]

    def fence(self) -> None:
        """Go on when all stores of this side can be seen."""
        self.ask(FENCE)

    def notify(self) -> None:
        """Wake the other side, or keep it from sleeping once."""
        self.ask(NOTIFY)

    def wait(self) -> bool:
        """Sleep until woken; True when the other side has closed."""
        return self.ask(WAIT)  # type: ignore[no-any-return]

    def poll(self) -> tuple[bool, bool]:
        """Whether `wait` would not have slept, and whether the other side has closed; takes the signal."""
        return self.ask(POLL)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Tell the other side that this one is gone: it never sleeps again."""
        self.ask(CLOSE)

    # -- what nobody sees yet ----------------------------------------------------------------

    def store(self, word: str, value: int) -> None:
        """Store a word; the other side sees it later."""
        self.act(Act(ActKind.STORE, word, value))

    def write(self, area: str, offset: int, data: bytes) -> None:
        """Store bytes in an area; the other side sees them later, all at once."""
        self.act(Act(ActKind.WRITE, area, offset=offset, data=data))

    def release(self) -> None:
        """Keep later stores behind earlier ones; nothing where no store passes another anyway."""
        if self._loose:
            self.act(Act(ActKind.RELEASE))

    def wake(self) -> None:
        """Keep this side itself from sleeping once."""
        self.act(Act(ActKind.WAKE))

    def note(self, text: str) -> None:
        """A line for the story."""
        self.act(Act(ActKind.NOTE, text=text))

    # -- inside ------------------------------------------------------------------------------

    def ask(self, question: Question) -> Any:
        """The recorded answer; Stop where there is none yet."""
        self.check_thread()
        at = self._asked
        if at == len(self._answers):
            self.question = self.question or question
            self.stop()
        if self._expected[at] != question:
            self.refuse(
                f"a side that was run again with the same answers did something else: {question} "
                f"where it had done {self._expected[at]}"
            )
        self._asked = at + 1
        self.acts = []
        return self._answers[at]

    def act(self, act: Act) -> None:
        self.check_thread()
        if self.question is not None:
            self.stop()
        self.acts.append(act)
        if len(self.acts) > MOST_ACTS:
            self.refuse(f"a side did {MOST_ACTS} things in a row without one that depends on the other side")

    def check_thread(self) -> None:
        if get_ident() != self._thread:
            self.refuse("a side used what is shared in a thread of its own: a side is one thread")

    def stop(self) -> NoReturn:
        """End this run."""
        self._stops += 1
        if self._stops > MOST_STOPS:
            self.refuse(
                f"a side caught what stops it {MOST_STOPS} times and went on: let a BaseException through"
            )
        raise Stop

    def refuse(self, message: str) -> NoReturn:
        """End the exploration: it could not be trusted."""
        self.misuse = CallerError(message, argument="script", value=message, limit="what can be explored")
        raise self.misuse


class Node:
    """One history of one side: what it did last, and what it will do next.

    answer, parent        the answer to the question of the node before
    answers               the nodes behind this one, by the answer to its question
    acts                  what the side did on the way here, behind the answer
    stores, sets, keeps   what these acts do to a state (see shared.Effect)
    question, kind        the next step; END or FAILED where there is none
    place, looks          what that step is about (see shared.Target)
    result                what the script returned
    error                 what the script raised
    raised                where: the file, and the line; the last outside of this package
    """

    __slots__ = (
        "acts",
        "answer",
        "answers",
        "error",
        "keeps",
        "kind",
        "looks",
        "parent",
        "place",
        "question",
        "raised",
        "result",
        "sets",
        "stores",
    )

    def __init__(self, parent: Node | None, answer: Any) -> None:
        self.parent = parent
        self.answer = answer
        self.answers: dict[Any, Node] = {}
        self.acts: list[Act] = []
        self.stores: tuple[Store, ...] = ()
        self.sets = 0
        self.keeps = -1
        self.question = END
        self.kind = StepKind.END
        self.place = -1
        self.looks: tuple[tuple[int, int], ...] = ()
        self.result: object = None
        self.error: Exception | None = None
        self.raised: tuple[str, int] | None = None

    def history(self) -> tuple[list[Any], list[Question]]:
        """All answers up to here, and the questions they answer."""
        answers, questions = [], []
        node = self
        while node.parent is not None:
            answers.append(node.answer)
            questions.append(node.parent.question)
            node = node.parent
        return answers[::-1], questions[::-1]


class Tree:
    """All histories of one side that have been met.

    index    0 for the left side, 1 for the right
    begins   whether the script has something to do before the exploration begins
    """

    def __init__(self, index: int, script: Script, world: World) -> None:
        self.index = index
        self._script = script
        self._world = world
        self.size = 0
        self.begins = False
        self.root = self.grow(None, None)

    def grow(self, parent: Node | None, answer: Any) -> Node:
        """The node behind `answer`: run the script up to there."""
        node = Node(parent, answer)
        side = Side(*node.history(), loose=self._world.loose)
        self._run(side, node)
        if side.misuse is not None:
            raise side.misuse
        if side.question is not None:
            node.question = side.question
            node.result = node.error = None
        node.kind = node.question.kind
        node.acts = side.acts
        node.stores, node.sets, node.keeps = self._world.effect_of(self.index, node.acts)
        node.place, node.looks = self._world.target_of(self.index, node.question)
        self.size += 1
        if parent is not None:
            parent.answers[answer] = node
        return node

    def _run(self, side: Side, node: Node) -> None:
        running: object = None
        try:
            running = self._script(side)
            if isinstance(running, Generator):
                self.begins = True
                node.result = run_generator(side, running)
            else:
                node.result = running
        except Stop:
            pass
        except Exception as error:  # noqa: BLE001 - whatever code under test raises is what was looked for
            node.question = FAILED
            node.raised = place_raised(error)
            node.error = error.with_traceback(None)
        if isinstance(running, Generator):
            # What it does when it is thrown away at its `yield` is nothing that it would do by itself.
            with suppress(Stop, Exception):
                running.close()


def place_raised(error: Exception) -> tuple[str, int] | None:
    """The last file and line that an error came through outside of this package; None where all was inside."""
    frame, found = error.__traceback__, None
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        if not file.startswith(PACKAGE):
            found = file, frame.tb_lineno
        frame = frame.tb_next
    return found


def run_generator(side: Side, running: Generator[object, object, object]) -> object:
    """What comes before the `yield`, the mark that the exploration begins, and the rest."""
    try:
        next(running)
        side.ask(BEGIN)
        next(running)
    except StopIteration as end:
        return end.value
    side.refuse("a side yields a second time: one `yield` ends what is done before the exploration begins")
