"""What is said of a stage where standard error is no terminal."""

from __future__ import annotations

from synth.progress import Progress


def test_a_long_name_stands_apart_from_the_count(capsys):
    with Progress().stage("own_net.py:network", 4) as stage:
        stage.at(4, "done")
    assert capsys.readouterr().err.startswith("own_net.py:network 4/4  done ")
