"""Text of others as text that shows, and gives no terminal orders."""

import hypothesis.strategies as st
from hypothesis import example, given

from lossfuzz.harness.records.printable import one_line, printable


@given(st.text())
@example("\x1b[31m\x07\r\x9b31m\u202e\u2066\ud800\x00\x7f")
def test_whatever_a_text_holds_what_is_printed_shows(text):
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    kept = printable(text, kept="\n")
    assert kept.count("\n") == text.count("\n")
    assert kept.replace("\n", "").isprintable()
    assert one_line(text).isprintable()


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs"))))
def test_what_shows_stays_as_it_is(text):
    if text.isprintable():
        assert printable(text) == text


def test_a_message_of_several_lines_becomes_one_that_holds_them_all():
    assert one_line("no\n\n  such file\x1b[0m\r\n") == "no; such file\\x1b[0m"
