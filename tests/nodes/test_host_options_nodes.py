"""What only newer ComfyUIs know is told to them alone."""

from dataclasses import dataclass

import pytest
from any2pix.nodes.host.host_options import where_known

pytestmark = pytest.mark.one_host


@dataclass
class Older:
    node_id: str


@dataclass
class Newer:
    node_id: str
    search_aliases: tuple = ()


def test_an_option_reaches_the_hosts_that_know_it():
    assert Newer("node", **where_known(Newer, search_aliases=("ip2p",))) == Newer("node", ("ip2p",))
    assert Older("node", **where_known(Older, search_aliases=("ip2p",))) == Older("node")


def test_the_others_are_left_alone():
    assert where_known(Newer, search_aliases=("ip2p",), advanced=True) == {"search_aliases": ("ip2p",)}
    with pytest.raises(TypeError):
        Older("node", search_aliases=("ip2p",))
