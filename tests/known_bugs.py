"""Bugs that rings have had elsewhere, numbered so that tests can name them.

    @known_bug("B25")
    def test_a_ring_filled_to_the_last_slot_is_not_taken_for_an_empty_one(): ...

B numbers are bugs of VMBus rings and of what stands around them, V numbers those of virtqueues.
Each has one sentence and its public source:

    lh:ID          the mail with that Message-ID, https://lore.kernel.org/linux-hyperv/ID/
    linux@HASH     https://git.kernel.org/torvalds/c/HASH
    dpdk@HASH      https://git.dpdk.org/dpdk/commit/?id=HASH
    openvmm#N      https://github.com/microsoft/openvmm/pull/N
    openvmm@HASH   https://github.com/microsoft/openvmm/commit/HASH
    mac@HASH       https://github.com/acidanthera/MacHyperVSupport/commit/HASH
    other#N        https://github.com/other/issues/N, the owner written out

A source in plain words is a file or document of that project.  "read" marks a conclusion from
reading its code: nobody has reported the bug there.

`python -m tests.known_bugs` lists every number with the tests that name it and with what has shown that
they notice it (tests/bug_coverage.py).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

__all__ = ["KNOWN_BUGS", "KnownBug", "known_bug", "named_by"]

TESTS = Path(__file__).parent


class KnownBug(NamedTuple):
    """One line of the catalogue."""

    number: str
    sentence: str
    source: str

    @property
    def addresses(self) -> list[str]:
        """Where the source can be read, as far as it has an address of its own."""
        return [
            pattern.format(*match.groups())
            for prefix, pattern in ADDRESSES
            for match in re.finditer(prefix, self.source)
        ]


#: How each form of citation becomes an address.
ADDRESSES = (
    (r"\blh:(\S+@[^\s,;)]+)", "https://lore.kernel.org/linux-hyperv/{}/"),
    (r"\blinux@([0-9a-f]{7,40})", "https://git.kernel.org/torvalds/c/{}"),
    (r"\bdpdk@([0-9a-f]{7,40})", "https://git.dpdk.org/dpdk/commit/?id={}"),
    (r"(?<!/)\bopenvmm#(\d+)", "https://github.com/microsoft/openvmm/pull/{}"),
    (r"\bopenvmm@([0-9a-f]{7,40})", "https://github.com/microsoft/openvmm/commit/{}"),
    (r"\bmac@([0-9a-f]{7,40})", "https://github.com/acidanthera/MacHyperVSupport/commit/{}"),
    (r"\b([\w-]+/[\w-]+)#(\d+)", "https://github.com/{}/issues/{}"),
)

CATALOGUE = (
    # -- signals that were lost, late or not wanted -------------------------------------------------
    KnownBug(
        "B01",
        "A writer found the ring full, asked for room and slept; the reader had made the room just before "
        "and had seen no request, so nobody woke the writer.",
        "lh:20191224105605.GA164618@rkaganb.sw.ru (found in QEMU)",
    ),
    KnownBug(
        "B02",
        "Two pollers of one socket shared the pending send size, and the one that waited for input erased "
        "what the one that waited for room had asked for.",
        "lh:MW2PR2101MB11164C6EEAA5C511B395EF3AC0EC0@MW2PR2101MB1116.namprd21.prod.outlook.com",
    ),
    KnownBug(
        "B03",
        "A reader looked at the other ring's mask, loaded in before the pending send size, took exactly the "
        "wanted space for too little or enough in the wrong place, and signaled senders that never ask.",
        "Linux commit 'Drivers: hv: vmbus: Fix ring buffer signaling', March 2018 (its last part from memory)",
    ),
    KnownBug(
        "B04",
        "After it stored out, a reader must load the pending send size and only then in, or it judges the "
        "request by an index that is too old.",
        "linux@71b38245",
    ),
    KnownBug(
        "B05",
        "A reader signaled although there had been enough room before its read; the host throttled the "
        "guest for signals it did not expect.",
        "linux@433e19cf33d3",
    ),
    KnownBug(
        "B06",
        "The decision to signal was taken at one time and the signal sent at a later one, when the host had "
        "already seen the packet and took the signal for spurious.",
        "linux@3372592a140d, linux@1f6ee4e7d835",
    ),
    KnownBug(
        "B07",
        "Hosts punish interrupts they do not expect: a writer may signal only where it ended an emptiness, a "
        "reader only where it ended the wait for room.",
        "Linux drivers/hv/ring_buffer.c (comment of 2016-10-30) and Documentation/virt/hyperv/vmbus.rst",
    ),
    KnownBug(
        "B08",
        "A reader cleared the mask and looked for packets without a fence between, so a packet could come "
        "unseen and unsignaled.",
        "Linux drivers/hv/ring_buffer.c, hv_end_read(); dpdk@1c33435a58",
    ),
    KnownBug(
        "B09",
        "A writer that decides to signal must load the mask before the reader's index.",
        "Linux drivers/hv/ring_buffer.c, hv_signal_on_write(); DPDK drivers/bus/vmbus, "
        "vmbus_txbr_need_signal()",
    ),
    KnownBug(
        "B10",
        "The host was signaled for every packet read, not once for the whole batch.",
        "dpdk@530af95a78, linux@f4e403633bcd",
    ),
    KnownBug("B11", "Every write signaled the host, and the disk became slow.", "mac@6eb9265"),
    KnownBug(
        "B12",
        "The first interrupt came before the reader was ready for it, and its packet waited for the next.",
        "lh:20250825115627.GA32189@linuxonhyperv3.guj3yctzbm1etfxqx2vob5hsef.xx.internal.cloudapp.net",
    ),
    KnownBug(
        "B13",
        "A guest driver ignores interrupts before the answer to its open request, so a host must signal "
        "again after it when the ring still needs it.",
        "openvmm#1829",
    ),
    KnownBug(
        "B14",
        "The device was told of the open channel before its event port was there, and the first signal was "
        "lost.",
        "openvmm@943b003a7, openvmm#1850",
    ),
    KnownBug(
        "B15",
        "Events were lost over save and restore; after a restore every channel whose control page asks for "
        "a signal must get one.",
        "openvmm#376, openvmm#405",
    ),
    KnownBug(
        "B16",
        "A completion arrived before the transmit queue was marked as stopped, and nobody started it again.",
        "lh:1556652525-83155-1-git-send-email-haiyangz@microsoft.com",
    ),
    KnownBug(
        "B17",
        "Some senders ask for one byte less than the ring has and mean an empty ring; without dropping the "
        "low three bits that space is never free.",
        "OpenVMM vmbus_ring/src/lib.rs, commit_read()",
    ),
    KnownBug(
        "B18",
        "A heartbeat driver took one packet for each callback, and the others waited for the next beat.",
        "linux@407a3aee6ee2 (the hash from memory)",
    ),
    KnownBug(
        "B19",
        "After a pause the time was set from the oldest waiting packet; only the last one is right.",
        "lh:20200819174740.47291-1-viremana@linux.microsoft.com",
    ),
    KnownBug(
        "B20",
        "A reader that drains a busy ring without a bound lets nobody else run.",
        "lh:1657035141-2132-1-git-send-email-ssengar@linux.microsoft.com, "
        "lh:1658741848-4210-1-git-send-email-ssengar@linux.microsoft.com",
    ),
    KnownBug(
        "B21",
        "Completions and data shared a ring: a reader that stopped for lack of receive buffers never saw the "
        "completions that would have freed some.",
        "dpdk@36274f2871",
    ),
    KnownBug(
        "B22",
        "The device file of a revoked channel returned an error or end of file, and the reader tried it again "
        "for ever.",
        "lh:20241025143009.4571-1-olaf@aepfle.de, dpdk@cd3e20a687",
    ),
    KnownBug(
        "B23",
        "Some channels are signaled through a monitor page and others by a call; the wrong means wakes nobody.",
        "dpdk@8e4a1b88e1, dpdk@fb4bff96be, dpdk@9c9d1dd516, openvmm#3579, openvmm@22dfd12e7",
    ),
    KnownBug(
        "B24",
        "The mask of a subchannel's ring was left to nobody.",
        "lh:20251115085937.2237-1-namjain@linux.microsoft.com, Debian bug 1120602",
    ),
    # -- indices, sizes, wraps, full and empty --------------------------------------------------------
    KnownBug(
        "B25",
        "A packet that fits exactly makes in equal to out, and the full ring looks empty.",
        "mac@1b74096; comments in the writers of Linux and FreeBSD",
    ),
    KnownBug(
        "B26",
        "An index from shared memory was used unchecked, and the arithmetic on it went below zero.",
        "Linux drivers/hv/ring_buffer.c and FreeBSD vmbus_br.c (read); OpenVMM and QEMU check theirs",
    ),
    KnownBug(
        "B27",
        "Indices out of range were reported as an empty ring, and the reader waited for ever without an "
        "error.",
        "QubesOS/qubes-issues#10833 (Xen vchan, after XSA-86)",
    ),
    KnownBug(
        "B28",
        "A reader checked a packet's length against what was published, forgot the 8 bytes of its footer, and "
        "stepped past in.",
        "OpenVMM vmbus_ring/src/lib.rs (read)",
    ),
    KnownBug(
        "B29",
        "A descriptor, a payload or a footer may lie on both sides of the end of the ring, split at any "
        "multiple of 8.",
        "DPDK drivers/bus/vmbus/vmbus_bufring.c copies in two parts; Linux maps the ring twice",
    ),
    KnownBug(
        "B30",
        "A quicker way through wrapped rings was merged, reverted and merged again; the quick and the slow "
        "way must give the same bytes.",
        "linux@bb08d431a914, linux@65a532f3d50a",
    ),
    KnownBug(
        "B31",
        "A length field of 16 bits counts 8-byte units, and a longer packet is written with its length cut.",
        "Linux include/linux/hyperv.h, struct vmpacket_descriptor (read)",
    ),
    KnownBug(
        "B32",
        "The bytes that pad a payload to a multiple of 8 carried old memory to the other side.",
        "lh:20220413204742.5539-5-parri.andrea@gmail.com",
    ),
    KnownBug(
        "B33",
        "A ring was made too small to work: its header page only, or one page in all.",
        "lh:20200721014135.84140-9-boqun.feng@gmail.com; QEMU hw/hyperv/vmbus.c refuses such a channel",
    ),
    KnownBug(
        "B34",
        "A ring of 24 KiB is no whole number of pages for a guest with pages of 64 KiB.",
        "lh:20260425181719.1538483-1-hamzamahfooz@linux.microsoft.com",
    ),
    KnownBug(
        "B35",
        "Sizes counted in the guest's pages, not in the host's of 4 KiB, became 16 times what was meant.",
        "lh:20240122162028.348885-1-mhklinux@outlook.com, lh:20240122170956.496436-1-mhklinux@outlook.com, "
        "lh:20240213061910.782060-1-mhklinux@outlook.com",
    ),
    KnownBug(
        "B36",
        "Data starts one page of the guest behind the control page, and a guest's page need not be 4 KiB.",
        "dpdk@c54fa45817, dpdk@30f24d33f3",
    ),
    KnownBug(
        "B37",
        "A large ring's header comes out of its own size: a ring of 512 KiB has 508 KiB of data, which is no "
        "power of two.",
        "lh:20240213061959.782110-1-mhklinux@outlook.com",
    ),
    KnownBug(
        "B38",
        "A user-space tool took every ring to be 16 KiB.",
        "lh:20250620070618.3097-1-namjain@linux.microsoft.com",
    ),
    KnownBug(
        "B39",
        "Where to map the ring was computed from a pointer on the stack, and a second process mapped it "
        "somewhere else.",
        "dpdk@1aef0aef36, dpdk@70cdd92e04",
    ),
    KnownBug(
        "B40",
        "An index above the middle of 32 bits was printed as a negative number.",
        "lh:20250913192450.4134957-1-alok.a.tiwari@oracle.com",
    ),
    KnownBug(
        "B41",
        "A disk driver promised more requests at once than its ring holds, and sent 248 useless bytes with "
        "each.",
        "lh:MWHPR21MB15937F41EB59A137BF3F1D01D7929@MWHPR21MB1593.namprd21.prod.outlook.com, "
        "lh:20201217203321.4539-2-parri.andrea@gmail.com, "
        "lh:1684171241-16209-1-git-send-email-mikelley@microsoft.com",
    ),
    KnownBug(
        "B42",
        "A full ring was logged as an error; it is normal, and the answer is to try again later.",
        "lh:20210301191348.196485-1-parri.andrea@gmail.com, "
        "lh:20260319202509.63802-48-eric.curtin@docker.com",
    ),
    # -- packets too large for somebody, and two views of one ring ------------------------------------
    KnownBug(
        "B43",
        "The largest packet was counted without its descriptor; a message of 4096 bytes was cut and the next "
        "read began inside it.",
        "lh:20211212121326.215377-1-yanminglr@gmail.com, lh:20220119202052.3006981-1-yanminglr@gmail.com",
    ),
    KnownBug(
        "B44",
        "One driver kept a limit of 4 KiB, and its packet of 6304 bytes was cut.",
        "lh:20210825133857.847866-1-vkuznets@redhat.com",
    ),
    KnownBug(
        "B45",
        "A read into too small a buffer failed and still reported a length, which some callers took for "
        "success and others needed.",
        "lh:20200724164606.43699-1-lkmlabelt@gmail.com",
    ),
    KnownBug(
        "B46",
        "The other side moved its index back between two looks, and the reader used a packet that was not "
        "there.",
        "lh:20220413204742.5539-2-parri.andrea@gmail.com",
    ),
    KnownBug(
        "B47",
        "The reader's own index and the published one came apart after a packet without bytes: the ring was "
        "readable for ever, or its end was an error.",
        "lh:20260414234316.711578-1-decui@microsoft.com, lh:20260423064811.1371749-1-decui@microsoft.com",
    ),
    KnownBug(
        "B48",
        "Copying packets out before using them broke their transaction ids; it was reverted and done again.",
        "lh:20210212165050.GA11906@anparri",
    ),
    KnownBug(
        "B49",
        "A packet buffer was freed twice when a channel went from one driver to another.",
        "lh:20210831143916.144983-1-vkuznets@redhat.com",
    ),
    KnownBug(
        "B50",
        "A ring was used or shown before anybody had opened it.",
        "lh:20240909164719.41000-1-decui@microsoft.com, linux@6712cc9c2211",
    ),
    KnownBug("B51", "An answer was longer than the packet that carried it.", "mac@7f3b0f2"),
    # -- hostile values, and values that change between two looks -------------------------------------
    KnownBug(
        "B52",
        "Fields of a descriptor or a message were read twice, and the host could change them between the "
        "check and the use.",
        "lh:20200714162203.5138-1-lkmlabelt@gmail.com, lh:20201118143649.108465-3-parri.andrea@gmail.com, "
        "lh:20201118143649.108465-4-parri.andrea@gmail.com",
    ),
    KnownBug(
        "B53",
        "A packet with ranges whose payload starts inside its own header led to a huge allocation.",
        "openvmm@4386c390b, openvmm#3692",
    ),
    KnownBug(
        "B54",
        "A GPA range could start behind its first page, and a part of a range forgot where the range starts.",
        "openvmm@610a488b0, openvmm#1842",
    ),
    KnownBug(
        "B55",
        "A GPA-direct packet without ranges, or with a range of no bytes, stopped the host.",
        "openvmm@e5c5db184, openvmm#621",
    ),
    KnownBug(
        "B56",
        "Offsets and lengths inside network and disk messages wrapped, pointed outside or were refused for a "
        "variant that is right.",
        "dpdk@7838d3a6ae, openvmm@ada66f9b3, openvmm@346628eb8, "
        "lh:20201211131404.21359-1-parri.andrea@gmail.com",
    ),
    KnownBug(
        "B57",
        "Reserved fields of the range headers may hold garbage and must not be judged.",
        "OpenVMM vmbus_ring/src/lib.rs, comments of mod protocol",
    ),
    KnownBug(
        "B58",
        "A ring refuses unknown flags and types, and whoever looks for the reason needs to see which.",
        "OpenVMM vmbus_ring/src/lib.rs, parse_packet()",
    ),
    KnownBug("B59", "An access to no bytes of guest memory went below zero.", "openvmm@befd0ac05"),
    KnownBug(
        "B60",
        "Numbers from the host were checked after they had been used.",
        "lh:20220413204742.5539-4-parri.andrea@gmail.com, lh:20260517-drm-hyperv-patch1@berkoc.com, "
        "lh:20260710022854.3739558-2-michael.bommarito@gmail.com",
    ),
    # -- transactions, order, the life of a channel ---------------------------------------------------
    KnownBug(
        "B61",
        "Transaction id 0 means none: hosts do not complete it, and use it for what nobody asked for.",
        "lh:20220407043028.379534-2-parri.andrea@gmail.com",
    ),
    KnownBug(
        "B62",
        "Ids of two channels met in one table, or the table was too small for the requests.",
        "dpdk@ac837bdd22, lh:20210212165050.GA11906@anparri",
    ),
    KnownBug(
        "B63",
        "On ARM64 the bytes of a packet were loaded before the index that publishes them, and were old.",
        "lh:1648394710-33480-1-git-send-email-mikelley@microsoft.com",
    ),
    KnownBug(
        "B64",
        "Somebody who waited for a reply took another packet for an error; it must be kept or passed over.",
        "dpdk@0a4533facb, dpdk@107f3cf310",
    ),
    KnownBug(
        "B65",
        "Channels were revoked in the wrong order, or opened again before a late wake-up had arrived.",
        "openvmm@61e8208ca, openvmm#3507",
    ),
    KnownBug(
        "B66",
        "The device node of a channel came too early when it was offered again, and stayed when it was "
        "revoked.",
        "lh:20250225052001.2225-1-namjain@linux.microsoft.com, "
        "lh:20240822110912.13735-3-namjain@linux.microsoft.com",
    ),
    KnownBug(
        "B67",
        "A close did not wait for the other side's end of stream, and data on the way was lost.",
        "lh:BN6PR21MB0465168DEA6CABA910832A5BC0320@BN6PR21MB0465.namprd21.prod.outlook.com, "
        "lh:PU1P153MB01690A7767ECDF420FF78D66BFC20@PU1P153MB0169.APCP153.PROD.OUTLOOK.COM",
    ),
    KnownBug(
        "B68",
        "A count of users went down twice, so the host never got its acknowledgment.",
        "dpdk@d43b8c7108",
    ),
    KnownBug(
        "B69",
        "A packet was described by many ranges where neighbours could have been one, and the host refused it.",
        "lh:20250513000604.1396-1-mhklinux@outlook.com; kernel.org bug 217503",
    ),
    KnownBug(
        "B70",
        "Somebody who shows a ring ran at the same time as somebody who took it down.",
        "linux@14948e39445d",
    ),
    # -- virtqueues ----------------------------------------------------------------------------------
    KnownBug(
        "V01",
        "An available ring claimed more entries than the queue has, and the same chains were walked again.",
        "rust-vmm/vm-virtio#196, firecracker-microvm/firecracker#3156",
    ),
    KnownBug(
        "V02",
        "A chain in a circle, or an indirect table inside one, was tried again for ever.",
        "openvmm#4036",
    ),
    KnownBug("V03", "More work was in flight than the queue has entries.", "openvmm#4002"),
    KnownBug(
        "V04",
        "In a packed ring, a chain as long as the ring must flip the wrap counter.",
        "openvmm#3990",
    ),
    KnownBug(
        "V05",
        "A descriptor index did not wrap at the ring's end, the last indirect descriptor said that another "
        "follows, and a size of 0 was accepted.",
        "openvmm#2983",
    ),
    KnownBug("V06", "The length of an indirect table was taken for the queue's size.", "openvmm#2986"),
    KnownBug("V07", "Address plus length wrapped past the top of memory.", "openvmm#4145, openvmm#3990"),
    KnownBug(
        "V08",
        "A chain was longer than 32 bits count, a size of 0 was divided by, and a queue was used after its "
        "reset.",
        "rust-vmm vm-virtio CHANGELOG, 0.4, 0.7.1 and 0.8",
    ),
    KnownBug(
        "V09",
        "The used index was stored with its bytes the wrong way round.",
        "rust-vmm vm-virtio CHANGELOG",
    ),
    KnownBug(
        "V10",
        "An indirect table had to be aligned although the standard does not ask for it.",
        "rust-vmm vm-virtio CHANGELOG, 0.7.1",
    ),
    KnownBug(
        "V11",
        "A 16-bit index was compared as a wider number and never wrapped.",
        "arcboxlabs/arcbox#210 (its review)",
    ),
    KnownBug(
        "V12",
        "With event indices, a notification was missed for want of a fence.",
        "cloud-hypervisor/cloud-hypervisor#2179; DPDK vhost, 'missed interrupt' (an excerpt)",
    ),
    KnownBug(
        "V13",
        "Indices were lost over a migration, and a reset left a queue enabled.",
        "oxidecomputer/propolis#1135, openvmm#3221",
    ),
    KnownBug(
        "V14",
        "A socket packet with header and data in one descriptor was refused.",
        "rust-vmm vm-virtio CHANGELOG, virtio-vsock",
    ),
    KnownBug(
        "V15",
        "Notifications were turned off and on with every poll, which cost a third of the throughput or more.",
        "openvmm#3151",
    ),
)

KNOWN_BUGS = {bug.number: bug for bug in CATALOGUE}


def known_bug(*numbers: str) -> pytest.MarkDecorator:
    """Marks a test as the one that keeps those bugs out: `@known_bug("B25", "B28")`.

    Raises ValueError for a number that is not in the catalogue.
    """
    unknown = [number for number in numbers if number not in KNOWN_BUGS]
    if unknown or not numbers:
        raise ValueError(f"the catalogue has no bug {', '.join(unknown) or 'without a number'}")
    return pytest.mark.known_bug(*numbers)


@cache
def named_by() -> dict[str, list[str]]:
    """For each number the tests that name it, as `file::test`, read once from the sources."""
    found: dict[str, list[str]] = {number: [] for number in KNOWN_BUGS}
    for path in sorted(TESTS.rglob("test_*.py")):
        source = path.read_text(encoding="utf-8")
        if f"{known_bug.__name__}(" not in source:  # to parse a file takes much longer
            continue
        for test, numbers in marked_tests(ast.parse(source)):
            for number in numbers:
                found.setdefault(number, []).append(f"{path.relative_to(TESTS).as_posix()}::{test}")
    return found


def marked_tests(module: ast.Module) -> Iterator[tuple[str, list[str]]]:
    """The name of each marked test of a file, or marked class of tests, and the numbers it names."""
    for node in module.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith("known_bug"):
                    yield node.name, [ast.literal_eval(argument) for argument in decorator.args]


def main() -> None:
    """Print the catalogue with the tests that name each number, and what holds it."""
    from tests.bug_coverage import table_text  # it imports this module

    print(table_text())


if __name__ == "__main__":
    main()
