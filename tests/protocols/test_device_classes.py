"""Every known class is found by its GUID and by each of its names, and Hyper-V sockets by their template."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import given, settings
from hypothesis.strategies import binary, integers

from vmbus.errors import CallerError
from vmbus.layout import Guid
from vmbus.protocols import DEVICE_CLASSES, device_class, hvsock_port, hvsock_service

#: Name by name, once more.
CLASSES = {
    "network": "f8615163-df3e-46c5-913f-f2d2f965ed0e",
    "scsi": "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f",
    "ide": "32412632-86cb-44a2-9b5c-50d1417354f5",
    "fibre-channel": "2f9bcc4a-0069-4af3-b76b-6fd0be528cda",
    "network-direct": "8c2eaf3d-32a7-4b09-ab99-bd1f1c86b501",
    "pci": "44c4f61d-4444-4400-9d52-802e27ede19f",
    "mouse": "cfa8b69e-5b4a-4cc0-b98b-8ba1a1f3f95a",
    "keyboard": "f912ad6d-2b17-48ea-bd65-f927a61c7684",
    "video": "da0a7802-e377-4aac-8e77-0558eb1073f8",
    "balloon": "525074dc-8985-46e2-8057-a307dc18a502",
    "shutdown": "0e0b6031-5213-4934-818b-38d90ced39db",
    "time-sync": "9527e630-d0ae-497b-adce-e80ab0175caf",
    "heartbeat": "57164f39-9115-4e78-ab55-382f3bd5422d",
    "key-value": "a9a0f4e7-5a45-4d96-b827-8a841e8c03e6",
    "backup": "35fa2e29-ea23-4236-96ae-3a6ebacba440",
    "file-copy": "34d14be3-dee4-41c8-9ae7-6b174977c192",
    "remote-desktop": "276aacf4-ac15-426c-98dd-7521ad3f01fe",
    "activation": "f8e65716-3cb3-4a06-9a60-1889c5cccab5",
    "inherited-activation": "3375baf4-9e15-4b30-b765-67acb10d607b",
    "file-system": "c376c1c3-d276-48d2-90a9-c04748072c60",
    "uart": "8b60ccf6-709f-4c11-90b5-229c959a9e6a",
    "guest-emulation": "8dedd1aa-9056-49e4-bfd6-1bf90dc38ef0",
    "guest-emulation-log": "aa5de534-d149-487a-9053-05972ba20a7c",
    "crash-dump": "427b03e7-4ceb-4286-b5fc-486f4a1dd439",
    "hvsock": "00000000-facb-11e6-bd58-64006a7986d3",
}


def test_the_table_has_exactly_these_classes():
    assert {one.name: str(one.class_id) for one in DEVICE_CLASSES} == CLASSES


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_is_found_by_its_bytes_in_memory_its_text_and_its_name(name):
    in_memory = Guid.from_bytes(uuid.UUID(CLASSES[name]).bytes_le)
    assert {device_class(one).name for one in (in_memory, CLASSES[name], name, name.upper())} == {name}


def test_every_other_name_leads_to_its_class_and_no_name_is_taken_twice():
    names = [name for one in DEVICE_CLASSES for name in (one.name, *one.other_names)]
    assert len(set(names)) == len(names)
    for one in DEVICE_CLASSES:
        assert all(device_class(name) is one for name in one.other_names)
        assert one.description


def test_names_are_lowercase_words_with_dashes():
    names = [name for one in DEVICE_CLASSES for name in (one.name, *one.other_names)]
    assert all(re.fullmatch("[a-z]+[0-9]?(-[a-z]+)*", name) for name in names)


@pytest.mark.parametrize("unknown", ["", "toaster", "f8615163-df3e-46c5-913f-f2d2f965ed0f", "network "])
def test_a_class_that_nobody_knows_is_none(unknown):
    assert device_class(unknown) is None


@settings(max_examples=100, deadline=None)
@given(integers(0, 2**32 - 1))
def test_the_guid_of_a_service_begins_with_its_port_and_leads_back(port):
    service = hvsock_service(port)
    assert str(service) == f"{port:08x}-facb-11e6-bd58-64006a7986d3"
    assert hvsock_port(service) == port
    assert device_class(service).name == "hvsock"


@pytest.mark.parametrize("port", [-1, 2**32])
def test_what_is_no_port_is_refused(port):
    with pytest.raises(CallerError, match=str(port)):
        hvsock_service(port)


@settings(max_examples=100, deadline=None)
@given(integers(4, 15), integers(1, 255), binary(min_size=4, max_size=4))
def test_with_any_other_byte_behind_the_port_it_is_no_service(place, change, port):
    wire = bytearray(port + hvsock_service(0).wire[4:])
    wire[place] ^= change
    assert hvsock_port(Guid.from_bytes(wire)) is None
    assert device_class(Guid.from_bytes(wire)) is None
