"""Fuzz ring corner cases: in this package, and in programs and captures of other people."""

from __future__ import annotations

from types import ModuleType

from .commands import Command, CommandTable

__all__ = ["TABLE"]


def load_list() -> ModuleType:
    from . import fuzz_list

    return fuzz_list


def load_run() -> ModuleType:
    from . import fuzz_run

    return fuzz_run


def load_explore() -> ModuleType:
    from . import fuzz_explore

    return fuzz_explore


def load_repro() -> ModuleType:
    from . import fuzz_repro

    return fuzz_repro


def load_minimize() -> ModuleType:
    from . import fuzz_minimize

    return fuzz_minimize


def load_corpus() -> ModuleType:
    from . import fuzz_corpus

    return fuzz_corpus


def load_target() -> ModuleType:
    from . import fuzz_target

    return fuzz_target


def load_compare() -> ModuleType:
    from . import fuzz_compare

    return fuzz_compare


TABLE = CommandTable(
    program="vmbus fuzz",
    description=__doc__ or "",
    commands={
        "list": Command("what can be fuzzed, and which corners are counted", "vmbus fuzz list", load_list),
        "run": Command(
            "draw cases for a target until one fails or the time is up",
            "vmbus fuzz run ring --seconds 60 --jobs 2",
            load_run,
        ),
        "explore": Command(
            "go through every order in which two sides can act",
            "vmbus fuzz explore channel --packets 1",
            load_explore,
        ),
        "repro": Command(
            "perform a case again, or write it as a Python script",
            "vmbus fuzz repro artifacts/ring/crash-da39a3ee --script",
            load_repro,
        ),
        "minimize": Command(
            "make a case that fails smaller",
            "vmbus fuzz minimize artifacts/ring/crash-da39a3ee",
            load_minimize,
        ),
        "corpus": Command(
            "write cases to start from, or a dictionary, for other fuzzers",
            "vmbus fuzz corpus corpus/ --target ring",
            load_corpus,
        ),
        "target": Command(
            "hold a program of your own against the strict reader",
            "vmbus fuzz target --seconds 10 -- ./my_ring_reader",
            load_target,
        ),
        "compare": Command(
            "how Linux, OpenVMM, DPDK, FreeBSD, UEFI and QEMU would take a ring",
            "vmbus fuzz compare ring.bin",
            load_compare,
        ),
    },
    epilog=(
        "exit status: 0 done, nothing wrong; 1 something is wrong with what was fuzzed; 2 could not be done.\n"
        "`run` and `minimize` need hypothesis; everything else works without."
    ),
)
