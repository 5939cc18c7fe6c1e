"""A guest as many are: what `vmbus devices` and its like have to show well.

Kinds, their numbers and their drivers as Linux 6.12 has them; the sizes of the rings too (netvsc 508 KiB of data,
storvsc 124 KiB, integration services 12 KiB, file copy 16 KiB), and a few words that traffic has left.
"""

from __future__ import annotations

from pathlib import Path

from tests.uio.guest_tree import GuestTree

__all__ = ["NETWORK", "UNKNOWN_CLASS", "instance_of", "realistic_guest"]

UNKNOWN_CLASS = "11111111-2222-3333-4444-555555555555"

KIB = 1024

#: Kind, relid, Linux's number of the kind, driver, bytes of each ring's data area.
SIMPLE_DEVICES = (
    ("balloon", 1, 0xF, "hv_balloon", 16 * KIB),
    ("time-sync", 2, 0xA, "hv_utils", 12 * KIB),
    ("heartbeat", 3, 0xB, "hv_utils", 12 * KIB),
    ("shutdown", 4, 0xC, "hv_utils", 12 * KIB),
    ("key-value", 5, 0x9, "hv_utils", 12 * KIB),
    ("keyboard", 6, 0x7, "hyperv_keyboard", 32 * KIB),
    ("mouse", 7, 0x8, "hid_hyperv", 32 * KIB),
    ("video", 8, 0x6, "hyperv_drm", 252 * KIB),
    ("scsi", 9, 0x1, "hv_storvsc", 124 * KIB),
)

#: The network card, which has four subchannels.
NETWORK = 14
NETWORK_DATA = 508 * KIB


def instance_of(relid: int) -> str:
    """The instance of the device with that relid."""
    return f"{relid:08x}-f5a3-4b5e-9d0e-0a1b2c3d4e5f"


def realistic_guest(root: Path) -> GuestTree:
    """Its files, below that folder."""
    tree = GuestTree(root)
    (root / "sys/bus/vmbus/hibernation").write_text("0\n")
    for kind, relid, number, driver, size in SIMPLE_DEVICES:
        tree.add_device(
            kind, instance_of(relid), relid, driver=driver, files={"device": f"{number:#x}", **rings(size)}
        )
        tree.write(
            channel(tree, relid, relid), {"write_avail": size, "interrupts": 10 * relid, "events": relid}
        )
    add_network(tree)
    tree.add_interface(instance_of(NETWORK), "eth0")
    tree.add_disk(instance_of(9), "sda")
    tree.add_device("file-copy", instance_of(24), 24, is_open=False, files={"device": "0xd"})
    tree.add_uio(instance_of(24), 0, {"txrx_rings": 40 * KIB, "int_page": 4 * KIB, "monitor_page": 4 * KIB})
    (channel(tree, 24, 24) / "ring").write_bytes(bytes(40 * KIB))
    for relid, port in ((25, 1024), (26, 5000)):
        service = f"{port:08x}-facb-11e6-bd58-64006a7986d3"
        tree.add_device("hvsock", instance_of(relid), relid, driver="hv_sock", class_id=service)
    tree.add_device(
        "scsi", instance_of(27), 27, is_open=False, class_id=UNKNOWN_CLASS, files={"device": "0x10"}
    )
    tree.add_device("pci", instance_of(28), 28, driver="hv_pci", files={"device": "0x5", "numa_node": 1})
    return tree


def add_network(tree: GuestTree) -> None:
    """A card with traffic, of which 144 bytes have not been received yet."""
    instance = instance_of(NETWORK)
    tree.add_device(
        "network",
        instance,
        NETWORK,
        driver="hv_netvsc",
        files={
            **rings(NETWORK_DATA),
            "in_write_index": 0x138,
            "in_read_index": 0xA8,
            "in_intr_mask": 1,
            "in_read_bytes_avail": 144,
            "in_write_bytes_avail": NETWORK_DATA - 144,
            "channel_vp_mapping": "\n".join(f"{NETWORK + number}:{number % 4}" for number in range(5)),
            "monitor_id": 1,
            **{f"{side}_monitor_pending": 0 for side in ("server", "client")},
            **{f"{side}_monitor_latency": 1000 for side in ("server", "client")},
            **{f"{side}_monitor_conn_id": 0x10005 for side in ("server", "client")},
        },
    )
    for number in range(5):
        if number:
            tree.add_channel(instance, NETWORK + number, number)
        files = {"cpu": number % 4, "write_avail": NETWORK_DATA, "interrupts": 1000 * number, "in_mask": 0}
        tree.write(channel(tree, NETWORK, NETWORK + number), files)
    first = {
        "in_mask": 1,
        "read_avail": 144,
        "interrupts": 123456,
        "out_full_first": 2,
        "out_full_total": 7,
        "monitor_id": 1,
        "pending": 0,
        "latency": 1000,
    }
    tree.write(channel(tree, NETWORK, NETWORK), first)


def rings(size: int) -> dict[str, int]:
    """The files of two rings with so much data area, and nothing in them."""
    return {f"{ring}_write_bytes_avail": size for ring in ("out", "in")}


def channel(tree: GuestTree, device: int, relid: int) -> Path:
    return tree.device_folder(instance_of(device)) / "channels" / str(relid)
