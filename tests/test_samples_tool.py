"""The dump that is shipped is the one that tools/make_samples.py makes, and nothing is wrong with it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from vmbus.inspection import Selection, inspect_dump, open_dump, sample_path

ROOT = Path(__file__).parent.parent
TOOL = ROOT / "tools" / "make_samples.py"


def tool() -> ModuleType:
    specification = importlib.util.spec_from_file_location("make_samples", TOOL)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_shipped_dump_is_what_the_tool_makes():
    assert tool().sample() == Path(sample_path()).read_bytes()


def test_the_tool_makes_the_same_bytes_every_time():
    assert tool().sample() == tool().sample()


def test_the_tool_writes_them_to_the_file_it_is_told(tmp_path):
    path = tmp_path / "made.bin"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, str(TOOL), str(path)], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout == f"{path}: 16384 bytes\n"
    assert path.read_bytes() == Path(sample_path()).read_bytes()


def test_the_shipped_dump_is_a_pair_of_rings_with_nothing_wrong():
    report = inspect_dump(open_dump(sample_path()), selection=Selection(history=True))
    assert report.is_sound
    assert [ring.place.role for ring in report.rings] == ["outbound", "inbound"]
    assert [ring.findings for ring in report.rings] == [[], []]


def test_the_shipped_dump_shows_what_an_inspection_can_show():
    """Both directions, most kinds of packets, some that wait and some from before, a wrap each."""
    report = inspect_dump(open_dump(sample_path()), selection=Selection(history=True))
    packets = [packet for ring in report.rings for packet in (*ring.consumed, *ring.packets)]
    assert {packet.descriptor.type for packet in packets} == {6, 9, 11}
    assert all(ring.packets and ring.consumed for ring in report.rings)
    assert any(packet.ranges for packet in packets)
    assert any(packet.description for packet in packets)
    for ring in report.rings:
        assert any(packet.offset + packet.packet_size > ring.place.data_size for packet in ring.packets)


IMAGES = {
    *(
        "scene.json",
        "scene.raw",
        "scene-parts.raw",
        "scene-parts.map",
        "scene.raw.gz",
        "scene.elf",
        "scene.lime",
    ),
    *(
        "scene.avml",
        "scene.kdump",
        "scene-part.kdump",
        "scene.flat",
        "scene.dmp",
        "scene-bitmap.dmp",
        "scene.vmrs",
    ),
}


def test_into_a_directory_the_tool_writes_an_image_of_every_format(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, str(TOOL), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {path.name for path in tmp_path.iterdir()} == IMAGES
    assert len(result.stdout.splitlines()) == len(IMAGES)
    made = tool()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == made.scene_files(
        made.small_scene()
    )


def test_a_directory_that_is_missing_is_made_and_the_help_says_so(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    target = tmp_path / "not" / "there"
    words = [sys.executable, str(TOOL)]
    made = subprocess.run([*words, "--images", str(target)], env=environment, capture_output=True, check=True)
    assert {path.name for path in target.iterdir()} == IMAGES
    assert len(made.stdout.splitlines()) == len(IMAGES)
    told = subprocess.run([*words, "--help"], env=environment, capture_output=True, text=True, check=True)
    assert "--images DIRECTORY" in told.stdout
    both = subprocess.run(
        [*words, "x", "--images", str(target)], env=environment, capture_output=True, check=False
    )
    assert (both.returncode, both.stdout) == (2, b"")
    file = target / "scene.raw"
    refused = subprocess.run(
        [*words, "--images", str(file)], env=environment, capture_output=True, text=True, check=False
    )
    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)


def test_the_images_are_small_and_the_places_of_their_rings_are_listed():
    files = tool().scene_files(tool().small_scene())
    assert all(len(content) < 4 << 20 for content in files.values())
    rings = json.loads(files["scene.json"])["rings"]
    for ring in rings:
        words = files["scene.raw"][ring["address"] :][:8]
        assert words == b"".join(ring[name].to_bytes(4, "little") for name in ("in_offset", "out_offset"))
    assert len({ring["kind"] for ring in rings}) >= 10
