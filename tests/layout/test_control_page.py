"""The control page names five words and keeps the others."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from vmbus.layout import CONTROL_PAGE
from vmbus.sizes import CONTROL_SIZE, CONTROL_WORD_COUNT

NAMED_WORDS = {
    0: "in_offset",
    1: "out_offset",
    2: "interrupt_mask",
    3: "pending_send_size",
    16: "feature_bits",
}


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    values=st.dictionaries(
        st.integers(0, CONTROL_WORD_COUNT - 1) | st.sampled_from([4, 15, 17, 31]),
        st.integers(1, 2**32 - 1),
        max_size=8,
    )
)
def test_every_word_is_a_named_one_or_one_of_the_others(values):
    image = b"".join(values.get(word, 0).to_bytes(4, "little") for word in range(CONTROL_WORD_COUNT))
    page = CONTROL_PAGE.unpack(image)
    assert {word: getattr(page, name) for word, name in NAMED_WORDS.items()} == {
        word: values.get(word, 0) for word in NAMED_WORDS
    }
    assert page.other_words == {word: values[word] for word in sorted(values) if word not in NAMED_WORDS}
    assert list(page.other_words) == sorted(page.other_words)
    assert CONTROL_PAGE.pack(page) == image


def test_all_that_has_a_meaning_lies_in_the_first_128_bytes():
    assert CONTROL_PAGE.size == CONTROL_SIZE == 4 * CONTROL_WORD_COUNT == 128
