"""The tables of waiting that people read are those that the code walks."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmbus.channel import RECEIVER_TABLE, SENDER_TABLE, table_text

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize("table", [RECEIVER_TABLE, SENDER_TABLE], ids=["receiver", "sender"])
def test_the_readme_shows_the_table_that_the_code_walks(table):
    assert table_text(table) in README.read_text(encoding="utf-8")


@pytest.mark.parametrize("table", [RECEIVER_TABLE, SENDER_TABLE], ids=["receiver", "sender"])
def test_a_row_is_found_under_its_own_state_and_event_and_says_why(table):
    for (state, event), row in table.items():
        assert (row.state, row.event) == (state, event)
        assert row.why
