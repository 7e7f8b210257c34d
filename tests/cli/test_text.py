"""Text for people."""

from __future__ import annotations

import pytest

from plugrun.cli import text
from plugrun.errors import InvalidArgument


@pytest.mark.parametrize(
    ("raw", "safe"),
    [
        ("plain ü 漢", "plain ü 漢"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\x9b2Jb", "a\\x9b2Jb"),
        ("abc\u202edef", "abc\\u202edef"),
        ("line\nbreak\r", "line\\x0abreak\\x0d"),
        ("\udcff", "\\udcff"),
    ],
)
def test_printable_escapes_what_moves_the_cursor_or_reorders_text(raw, safe):
    assert text.printable(raw) == safe


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0B"), (999, "999B"), (1000, "1kB"), (4_261_502, "4.26MB"), (10**12, "1TB")]
)
def test_sizes_are_dockers(number, shown):
    assert text.size(number) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.2, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (7200, "2 hours"),
        (86400 * 8, "1 week"),
    ],
)
def test_ages(seconds, shown):
    assert text.age(seconds) == shown


def test_tables_align_and_do_not_trail_blanks():
    assert text.table(["A", "LONG"], [["xyz", ""], ["x", "y"]]) == "A     LONG\nxyz\nx     y"


SENTENCES = [["ok", "yes"], ["bad", "it says why, and what would help"]]


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (None, "A     WHY\nok    yes\nbad   it says why, and what would help\n"),
        (38, "A     WHY\nok    yes\nbad   it says why, and what would help\n"),
        (37, "A     WHY\nok    yes\nbad   it says why, and what would\n      help\n"),
        (26, "A     WHY\nok    yes\nbad\n    it says why, and what\n    would help\n"),
        (8, "A     WHY\nok    yes\nbad   it says why, and what would help\n"),
    ],
)
def test_a_narrow_screen_folds_sentences_between_words(width, shown):
    assert text.table(["A", "WHY"], SENTENCES, width=width) + "\n" == shown


ROWS = [{"ID": "1", "Names": "web", "Labels": {"k": "v"}}]


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{{.Names}}", "web"),
        ("{{ .ID }}/{{.Names}}", "1/web"),
        ("{{.ID}}\\t{{.Names}}", "1\tweb"),
        ("{{json .Labels}}", '{"k": "v"}'),
        ("{{.Labels.k}}", "v"),
        ("{{json .}}", '{"ID": "1", "Names": "web", "Labels": {"k": "v"}}'),
        ("json", '{"ID": "1", "Names": "web", "Labels": {"k": "v"}}'),
        ("table {{.ID}}\\t{{.Names}}", "CONTAINER ID   NAMES\n1              web"),
        (None, "CONTAINER ID\n1"),
    ],
)
def test_formats(template, shown):
    assert text.render(ROWS, template, {"ID": "CONTAINER ID"}) == shown


@pytest.mark.parametrize("template", ["{{.Nope}}", "{{range .ID}}x{{end}}", "{{.ID"])
def test_a_template_that_cannot_be_filled_is_refused(template):
    with pytest.raises(InvalidArgument):
        text.render(ROWS, template, {"ID": "ID"})


def test_a_field_cannot_send_terminal_escapes():
    assert text.fill("{{.Names}}", {"Names": "\x1b[2J"}) == "\\x1b[2J"
