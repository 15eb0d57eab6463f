"""Text that is shown on a terminal."""

import os

from dinoclassify.messages import printable


def test_text_for_a_terminal_is_escaped() -> None:
    assert printable(os.fsdecode(b"\xff\xfe\n\x1b[31m.jpg") + "\ud800") == r"\xff\xfe\n\x1b[31m.jpg\ud800"
