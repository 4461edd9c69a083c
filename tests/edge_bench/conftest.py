"""The agent's zipapp, and the zipapp on a stand-in board."""

from __future__ import annotations

import pytest
from agent_on_board import AgentOnBoard
from stand_in_board import StandInBoard

from edge_bench import agent_build


@pytest.fixture(scope="module")
def pyz(tmp_path_factory):
    path = tmp_path_factory.mktemp("agent") / "edge_bench.pyz"
    agent_build.write_agent(path)
    return path


@pytest.fixture
def agent(pyz, tmp_path):
    return AgentOnBoard(pyz, StandInBoard(tmp_path))
