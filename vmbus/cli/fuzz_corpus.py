"""Write cases or ring images to start from, for coverage-guided fuzzers; or a dictionary.

DIR/TARGET/SHA1 is a case in bytes, named after them, as libFuzzer has it.  Each was performed before it was written,
and each meets a corner that those before it did not.  A coverage-guided fuzzer calls `vmbus.fuzzing.fuzz_one` with
a case's bytes:

    import sys, atheris
    with atheris.instrument_imports():
        from vmbus.fuzzing import fuzz_one
    atheris.Setup(sys.argv, lambda data: fuzz_one(data, target="ring"))
    atheris.Fuzz()

A case is no ring.  For programs that read rings --images writes DIR/images/SHA1: whole rings (a control page, then
data), right ones, ones broken in every named way, and damaged ones; the strict reader has read each.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from vmbus.fuzzing import IMAGES_FOLDER, Trial, Wrong, dictionary, targets, write_corpus, write_images

from .fuzz_targets import chosen
from .output import UsageError, number, print_lines
from .progress import Progress

__all__ = ["add_arguments", "execute"]

#: Enough that every named break is among them.
IMAGES = 100

EXAMPLES = """\
examples:
  vmbus fuzz corpus corpus/
  vmbus fuzz corpus corpus/ --target ring --seed 7
  vmbus fuzz corpus corpus/ --images --count 200
  vmbus fuzz corpus --dictionary > vmbus.dict

exit status: 0 done; 1 a case failed; 2 could not be done.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("directory", nargs="?", metavar="DIR", help="where to write")
    parser.add_argument("--target", metavar="TARGET", help="only the cases of this one")
    parser.add_argument("--seed", type=number, default=0, metavar="S", help="of the cases (default: 0)")
    parser.add_argument("--images", action="store_true", help="write ring images, and no cases")
    parser.add_argument("--count", type=number, metavar="N", help=f"how many images (default: {IMAGES})")
    parser.add_argument(
        "--dictionary",
        action="store_true",
        help="write no cases: print the byte strings that mean something in a ring or a virtqueue",
    )


def execute(arguments: Namespace) -> int:
    if arguments.count is not None and not arguments.images:
        raise UsageError("--count is how many --images")
    if arguments.images and (arguments.target or arguments.dictionary):
        raise UsageError("--images are of no target, and no dictionary; leave out the other")
    if arguments.dictionary:
        if arguments.directory or arguments.target:
            raise UsageError("--dictionary prints one for all targets; leave out DIR and --target")
        print_lines(map(str, dictionary()))
        return 0
    if not arguments.directory:
        raise UsageError("which DIR? (--dictionary prints, and needs none)")
    if arguments.images:
        count = IMAGES if arguments.count is None else arguments.count
        with Progress("images: ") as progress:
            for done, _ in enumerate(write_images(Path(arguments.directory), arguments.seed, count), 1):
                progress.say(f"{done} of {count}")
        print_lines([f"{Path(arguments.directory) / IMAGES_FOLDER}: {count} images"])
        return 0
    trials = [chosen(arguments.target)] if arguments.target else targets().values()
    for trial in trials:
        try:
            print_lines([written(Path(arguments.directory), trial, arguments.seed)])
        except Wrong as error:
            print_lines([f"{trial.name}: a case that was to be kept is wrong: {error}"])
            return 1
    return 0


def written(directory: Path, trial: type[Trial], seed: int) -> str:
    """Write the cases of a target; a line about them."""
    count = 0
    with Progress(f"{trial.name}: ") as progress:
        for _ in write_corpus(directory, trial, seed):
            count += 1
            progress.say(f"{count} cases")
    return f"{directory / trial.name}: {count} cases"
