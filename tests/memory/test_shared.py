"""SharedMemory is seen by other processes, and closes whole or not at all."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from tests.descriptors import assert_no_more_than, needs_proc, open_descriptors
from tests.helpers import pattern
from tests.memory.children import in_child, needs_fork
from vmbus.errors import CallerError, DeviceError, PeerError
from vmbus.memory import FlatRingMem, PagedRingMem, SharedMemory
from vmbus.ring import IncomingRing, OutgoingRing, connected_rings
from vmbus.sizes import PAGE_SIZE

ROOT = Path(__file__).parents[2]
SIZE = 3 * PAGE_SIZE
MEMFD = hasattr(os, "memfd_create")

needs_memfd = pytest.mark.skipif(not MEMFD, reason="this system has no memfd")


@pytest.fixture(params=["a file", "no name"])
def shared(request, tmp_path):
    """Shared memory with and without a name; closed at the end if the test has not."""
    memory = SharedMemory.create(SIZE, tmp_path / "ring" if request.param == "a file" else None)
    yield memory
    memory.close()


def test_new_memory_is_zeroed_and_has_its_size(shared):
    assert (shared.size, shared.readonly) == (SIZE, False)
    view = shared.map()
    assert (len(view), view.readonly, any(view)) == (SIZE, False, False)
    assert os.fstat(shared.fileno()).st_size == SIZE
    assert repr(shared) == "<SharedMemory: 12288 bytes>"


def test_all_views_show_the_same_bytes(shared):
    whole, part = shared.map(), shared.map(PAGE_SIZE, 16)
    part[0:5] = b"bytes"
    assert bytes(whole[PAGE_SIZE : PAGE_SIZE + 6]) == b"bytes\0"
    assert len(part) == 16
    assert len(shared.map(PAGE_SIZE)) == 2 * PAGE_SIZE
    assert len(shared.map(SIZE)) == 0


@pytest.mark.parametrize(
    ("offset", "length"),
    [(-1, None), (-1, 1), (0, -1), (SIZE + 1, None), (0, SIZE + 1), (SIZE, 1), (8, SIZE)],
)
def test_a_view_outside_the_memory_is_refused(shared, offset, length):
    with pytest.raises(CallerError) as caught:
        shared.map(offset, length)
    assert (caught.value.value, caught.value.limit) == ((offset, length), SIZE)


def test_opened_memory_is_the_same_memory(shared, tmp_path):
    shared.map()[7:13] = b"shared"
    for file in [shared.fileno(), *tmp_path.iterdir()]:
        with SharedMemory.open(file) as again:
            assert bytes(again.map(7, 6)) == b"shared"
            again.map()[7] = ord("S")
        assert bytes(shared.map(7, 6)) == b"Shared"
        shared.map()[7] = ord("s")


def test_memory_opened_read_only_follows_and_cannot_be_written(shared):
    with SharedMemory.open(shared.fileno(), readonly=True) as watching:
        assert (watching.readonly, watching.size) == (True, SIZE)
        assert repr(watching) == "<SharedMemory: 12288 bytes, read-only>"
        sender, _ = connected_rings(memory=FlatRingMem.over(shared.map()))
        receiver = IncomingRing(FlatRingMem.over(watching.map()))
        sender.send(b"seen-too")
        packet = receiver.read(receiver.incoming())
        assert packet.payload.reader(receiver).read_all() == b"seen-too"
        with pytest.raises(TypeError):
            watching.map()[0] = 1
        with pytest.raises(CallerError):
            receiver.receive()
        del receiver, packet, sender


def test_a_descriptor_stays_the_callers_own(shared):
    own = os.dup(shared.fileno())
    SharedMemory.open(own).close()
    assert os.fstat(own).st_size == SIZE
    os.close(own)


# -- other processes -------------------------------------------------------------------------


RECEIVE_IN_ANOTHER_PROCESS = """
import sys
from vmbus.memory import FlatRingMem, SharedMemory
from vmbus.ring import IncomingRing, OutgoingRing

file = sys.argv[1]
with SharedMemory.open(int(file) if file.isdigit() else file) as shared:
    inbound, outbound = (FlatRingMem.over(shared.map(start, 8192)) for start in (0, 8192))
    sender, receiver = OutgoingRing(outbound), IncomingRing(inbound)
    for packet in receiver.receive_many()[0]:
        sender.send(packet.payload[::-1], transaction_id=packet.transaction_id)
    del inbound, outbound, sender, receiver
"""


@pytest.mark.parametrize("way", ["a path", "an inherited descriptor"])
def test_a_second_process_answers_over_the_same_memory(way, tmp_path):
    path = tmp_path / "rings" if way == "a path" else None
    with SharedMemory.create(4 * PAGE_SIZE, path) as shared:
        sender = connected_rings(memory=FlatRingMem.over(shared.map(0, 8192)), start=4000)[0]
        receiver = connected_rings(memory=FlatRingMem.over(shared.map(8192)), start=4088)[1]
        sender.send(pattern(200), transaction_id=7)
        sender.send(pattern(1000), transaction_id=8)
        descriptor = shared.fileno()
        subprocess.run(
            [sys.executable, "-c", RECEIVE_IN_ANOTHER_PROCESS, str(path or descriptor)],
            check=True,
            timeout=60,
            cwd=ROOT,
            pass_fds=() if path else (descriptor,),
        )
        answers = receiver.receive_many()[0]
        assert [(packet.transaction_id, packet.payload) for packet in answers] == [
            (7, pattern(200)[::-1]),
            (8, pattern(1000)[::-1]),
        ]
        assert sender.memory.control[1] == sender.memory.control[0]
        del sender, receiver


@needs_fork
def test_a_forked_child_sees_the_memory_and_its_end_closes_nothing_here(shared):
    def child():
        shared.map()[0:5] = b"child"
        shared.close()

    assert in_child(child) == 0
    assert bytes(shared.map(0, 5)) == b"child"


def test_a_descriptor_is_not_inherited_unasked(shared):
    assert not os.get_inheritable(shared.fileno())
    with SharedMemory.open(shared.fileno()) as again:
        assert not os.get_inheritable(again.fileno())


# -- closing ---------------------------------------------------------------------------------


@needs_proc
def test_closing_gives_every_descriptor_back(no_descriptor_left, tmp_path):
    for path in (tmp_path / "ring", None):
        before = open_descriptors()
        shared = SharedMemory.create(SIZE, path)
        again = SharedMemory.open(shared.fileno())
        assert open_descriptors() > before
        again.close()
        shared.close()
        assert_no_more_than(before)


@needs_proc
def test_memory_that_is_dropped_and_never_closed_leaves_no_descriptor(no_descriptor_left, recwarn):
    shared = SharedMemory.create(SIZE)
    view = shared.map()
    del shared
    view[0] = 1  # the view alone keeps the bytes
    assert view[0] == 1
    del view
    gc.collect()
    assert not list(recwarn)


@needs_proc
@pytest.mark.parametrize(
    "use",
    [
        lambda shared: shared.map(),
        lambda shared: shared.map(8, 0),
        lambda shared: FlatRingMem.over(shared.map()),
        lambda shared: PagedRingMem([shared.map(at, PAGE_SIZE) for at in (0, PAGE_SIZE)]),
        lambda shared: connected_rings(memory=FlatRingMem.over(shared.map())),
    ],
    ids=["a view", "an empty view", "flat memory", "paged memory", "rings"],
)
def test_closing_memory_in_use_is_refused_and_closes_nothing(use, no_descriptor_left):
    shared = SharedMemory.create(SIZE)
    in_use = use(shared)
    descriptor, count = shared.fileno(), open_descriptors()
    for _ in range(2):
        with pytest.raises(CallerError, match="still in use"):
            shared.close()
        assert shared.fileno() == descriptor
        assert_no_more_than(count)
        shared.map(100, 4)[:] = b"open"
        assert bytes(shared.map(100, 4)) == b"open"
    del in_use
    shared.close()


def test_memory_in_use_closes_once_its_views_are_released():
    shared = SharedMemory.create(SIZE)
    view = shared.map()
    with pytest.raises(CallerError):
        shared.close()
    view.release()
    shared.close()
    assert repr(shared) == "<SharedMemory: closed>"


def test_a_ring_that_an_error_has_stopped_does_not_keep_the_memory_open():
    shared = SharedMemory.create(SIZE)
    memory = FlatRingMem.over(shared.map())
    sender = OutgoingRing(memory)
    memory.control[1] = 3
    with pytest.raises(PeerError):
        sender.send(bytes(8))
    ring = weakref.ref(sender)
    del memory, sender
    shared.close()
    assert ring() is None


def test_closing_again_is_harmless():
    shared = SharedMemory.create(SIZE)
    for _ in range(3):
        shared.close()


@needs_proc
def test_closing_again_does_not_close_a_descriptor_that_took_the_same_number(no_descriptor_left, tmp_path):
    shared = SharedMemory.create(SIZE)
    number = shared.fileno()
    shared.close()
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
    assert other == number  # the system gives out the lowest number that is free
    shared.close()
    del shared
    gc.collect()
    os.close(other)  # would raise if it had been closed


def test_closed_memory_cannot_be_used():
    shared = SharedMemory.create(SIZE)
    shared.close()
    for use in (shared.map, shared.fileno, lambda: shared.map(0, 8)):
        with pytest.raises(CallerError, match="closed"):
            use()


def test_the_with_statement_closes(tmp_path):
    with SharedMemory.create(SIZE, tmp_path / "ring") as shared:
        shared.map()[0] = 1
    with pytest.raises(CallerError):
        shared.fileno()


def test_the_with_statement_refuses_to_end_over_a_view():
    shared = SharedMemory.create(SIZE)
    with pytest.raises(CallerError, match="still in use"), shared:
        view = shared.map()
    assert len(view) == SIZE
    del view
    shared.close()


@needs_proc
@pytest.mark.parametrize("with_view", [False, True])
def test_an_error_inside_the_with_statement_is_the_one_that_comes_out(with_view, no_descriptor_left):
    shared = SharedMemory.create(SIZE)
    with pytest.raises(KeyError, match="own"), shared:
        view = shared.map() if with_view else None
        raise KeyError("own")
    if with_view:
        assert len(view) == SIZE
        del view
    shared.close()
    with pytest.raises(CallerError, match="closed"):
        shared.map()


# -- refusals --------------------------------------------------------------------------------


@needs_memfd
def test_memory_without_a_name_cannot_be_made_shorter():
    with SharedMemory.create(SIZE) as shared:
        for size in (SIZE - 1, 0):
            with pytest.raises(PermissionError):
                os.ftruncate(shared.fileno(), size)
        with SharedMemory.open(shared.fileno()) as again:
            assert again.size == SIZE


@needs_memfd
def test_the_seal_of_memory_without_a_name_cannot_be_changed():
    import fcntl

    with SharedMemory.create(SIZE) as shared:
        assert fcntl.fcntl(shared.fileno(), fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
        with pytest.raises(PermissionError):
            fcntl.fcntl(shared.fileno(), fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_where_the_system_has_no_memfd_a_file_without_a_name_serves(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with SharedMemory.create(SIZE) as shared, SharedMemory.open(shared.fileno()) as again:
        shared.map()[0:4] = b"file"
        assert bytes(again.map(0, 4)) == b"file"
        if os.name == "posix":
            assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, -1, -PAGE_SIZE, 2**64, 2**200])
@pytest.mark.parametrize("named", [False, True])
@needs_proc
def test_a_size_that_cannot_be_is_the_callers_error(size, named, tmp_path, no_descriptor_left):
    with pytest.raises(CallerError) as caught:
        SharedMemory.create(size, tmp_path / "ring" if named else None)
    assert (caught.value.argument, caught.value.value) == ("size", size)
    assert list(tmp_path.iterdir()) == []


@needs_proc
@pytest.mark.parametrize("named", [False, True])
def test_more_memory_than_the_system_has_is_a_device_error_and_leaves_no_file(
    named, tmp_path, no_descriptor_left
):
    with pytest.raises(DeviceError) as caught:
        SharedMemory.create(2**62, tmp_path / "ring" if named else None)
    assert caught.value.errno in (errno.ENOMEM, errno.EFBIG, errno.EINVAL, errno.ENOSPC)
    assert list(tmp_path.iterdir()) == []


@needs_proc
@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve space")
def test_a_file_system_without_room_is_a_device_error_and_not_a_fault_later(monkeypatch, tmp_path):
    def no_room(descriptor, start, length):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(DeviceError) as refused:
        SharedMemory.create(SIZE, tmp_path / "ring")
    assert refused.value.errno == errno.ENOSPC
    assert not (tmp_path / "ring").exists()


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve space")
def test_a_file_system_that_cannot_reserve_space_is_used_all_the_same(monkeypatch, tmp_path):
    def unsupported(descriptor, start, length):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    with SharedMemory.create(SIZE, tmp_path / "ring") as shared:
        assert shared.size == SIZE


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve space")
def test_a_file_has_all_its_space_from_the_start(tmp_path):
    with SharedMemory.create(SIZE, tmp_path / "ring"):
        assert (tmp_path / "ring").stat().st_blocks * 512 >= SIZE


def test_a_file_that_exists_is_not_overwritten(tmp_path, no_descriptor_left):
    path = tmp_path / "ring"
    path.write_bytes(b"precious")
    with pytest.raises(DeviceError) as caught:
        SharedMemory.create(SIZE, path)
    assert caught.value.errno == errno.EEXIST
    assert path.read_bytes() == b"precious"


@needs_proc
def test_a_folder_that_is_not_there_is_a_device_error(tmp_path, no_descriptor_left):
    for use in (SharedMemory.open, lambda path: SharedMemory.create(SIZE, path)):
        for path in (tmp_path / "missing" / "ring", ""):
            with pytest.raises(DeviceError) as caught:
                use(path)
            assert caught.value.errno == errno.ENOENT


@needs_proc
@pytest.mark.parametrize("readonly", [False, True])
def test_a_missing_file_is_a_device_error_that_names_it(readonly, tmp_path, no_descriptor_left):
    with pytest.raises(DeviceError, match="missing") as caught:
        SharedMemory.open(tmp_path / "missing", readonly=readonly)
    assert caught.value.errno == errno.ENOENT
    assert isinstance(caught.value, OSError)


@needs_proc
@pytest.mark.parametrize("readonly", [False, True])
def test_a_folder_is_a_device_error(readonly, tmp_path, no_descriptor_left):
    (tmp_path / "something").touch()
    with pytest.raises((DeviceError, CallerError)) as caught:
        SharedMemory.open(tmp_path, readonly=readonly)
    if isinstance(caught.value, DeviceError):
        assert caught.value.errno in (errno.EISDIR, errno.ENODEV, errno.EACCES)
    else:
        assert caught.value.value == 0  # on file systems where a folder has no size


@needs_proc
@pytest.mark.parametrize("readonly", [False, True])
def test_an_empty_file_is_the_callers_error(readonly, tmp_path, no_descriptor_left):
    (tmp_path / "empty").touch()
    with pytest.raises(CallerError, match="empty"):
        SharedMemory.open(tmp_path / "empty", readonly=readonly)


@needs_proc
def test_a_descriptor_that_is_not_open_is_a_device_error(no_descriptor_left):
    closed = os.open(os.devnull, os.O_RDONLY)
    os.close(closed)
    with pytest.raises(DeviceError) as caught:
        SharedMemory.open(closed)
    assert caught.value.errno == errno.EBADF


@needs_proc
def test_a_descriptor_that_can_only_be_read_maps_read_only(tmp_path, no_descriptor_left):
    (tmp_path / "ring").write_bytes(bytes(SIZE))
    descriptor = os.open(tmp_path / "ring", os.O_RDONLY)
    with pytest.raises(DeviceError) as caught:
        SharedMemory.open(descriptor)
    assert caught.value.errno == errno.EACCES
    with SharedMemory.open(descriptor, readonly=True) as shared:
        assert shared.map().readonly
    os.close(descriptor)


@needs_fork
def test_files_without_permission_are_device_errors(tmp_path):
    """In a child that is nobody, because the superuser may do everything."""
    for name, mode in (("locked", 0o000), ("read-only", 0o444)):
        (tmp_path / name).write_bytes(bytes(SIZE))
        (tmp_path / name).chmod(mode)
    tmp_path.chmod(0o755)

    def child():
        os.chdir(tmp_path)
        if os.geteuid() == 0:
            os.seteuid(65534)
        else:
            tmp_path.chmod(0o555)
        for use in (
            lambda: SharedMemory.open("locked"),
            lambda: SharedMemory.open("locked", readonly=True),
            lambda: SharedMemory.open("read-only"),
            lambda: SharedMemory.create(SIZE, "new"),
        ):
            with pytest.raises(DeviceError) as caught:
                use()
            assert caught.value.errno == errno.EACCES
        with SharedMemory.open("read-only", readonly=True) as shared:
            assert shared.size == SIZE

    status = in_child(child)
    tmp_path.chmod(0o755)
    assert status == 0
