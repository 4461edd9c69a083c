"""Power from a running jtop, only when it is named: a cross-check where nothing else is readable.

jetson-stats is AGPL and never part of this project; the user's own copy is asked through its documented interface.
Only its present values are used: its averages are no means, and its totals were wrong more than once.
"""
import collections
import time
from typing import Any

from devices.support.errors import CannotMeasure
from edge_bench.agent.power.source import Absent, PowerSource, ReadFailed, Sample
from edge_bench.agent.power.totals import facts_of, totals_of, why_no_total

INTERVAL_S = 0.5  # the author advises against less


class Jtop(PowerSource):
    """The client of jtop.service, of 3.1.4, 4.x or 7.x. `read` waits for its next update."""

    name = "jtop"
    paced = True

    def __init__(self, root="/", board=None, clock=time.monotonic, module=None):
        super(Jtop, self).__init__(root, board, clock)
        self._module = module
        self._client: Any = None

    def open(self):
        if self._module is None:
            try:
                import jtop as module
            except (ImportError, SyntaxError) as error:
                raise Absent("jetson-stats cannot be imported ({}): on JetPack 4 install jetson-stats==4.3.2".format(
                    error))
            self._module = module
        try:
            self._client = self._module.jtop(interval=INTERVAL_S)
            self._client.start()
        except Exception as error:  # jtop raises its own classes, which differ between its versions
            self._client = None
            raise Absent("jtop does not start ({}): is jtop.service running, and are you in the group jtop?".format(
                error))
        # a jtop that already runs sets the interval for all
        self.refresh_s = float(getattr(self._client, "interval", None) or INTERVAL_S)
        self.where = "jtop {}".format(getattr(self._module, "__version__", "of unknown version"))
        try:
            rails = self._rails()
        except ReadFailed as error:
            self.close()
            raise CannotMeasure("jtop runs, but {}".format(error))
        self.totals = totals_of(rails, self.board)
        if "module" not in self.totals:
            self.close()
            raise CannotMeasure("jtop runs, but {}".format(why_no_total(rails)))
        self.rails = sorted(rails)
        facts = facts_of(self.totals["module"], self.board)
        self.quantum_mw, self.filter_s = facts.quantum_mw, facts.filter_s

    def _rails(self):
        try:
            if not self._client.ok():
                raise ReadFailed("jtop has stopped")
            return rails_of(self._client.power)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ReadFailed("jtop's power is of a form that is not known ({!r})".format(error))

    def read(self):
        rails = self._rails()
        now = self.clock()
        missing = [name for name in self.totals[self.scope] if name not in rails]
        if missing:
            raise ReadFailed("jtop gave no {}".format(missing[0]))
        return Sample(now, rails, self.total_mw(rails), None)

    def close(self):
        client, self._client = self._client, None
        if client is not None:
            client.close()


def rails_of(power):
    """{name: present mW} of what `jtop.power` gives: a tuple (total, rails) in 3.x, a dictionary from 4.0 on.

    The total rail is taken out of the rails by 4.x and told as "tot" with its name, or without one where it is
    jtop's own sum, which is not used.
    """
    if isinstance(power, tuple):
        return {name: int(value["cur"]) for name, value in power[1].items() if name != "NC"}
    rails = collections.OrderedDict((name, int(value["power"])) for name, value in power["rail"].items()
                                    if name != "NC" and value.get("online", True))
    name = power.get("tot", {}).get("name")
    if name in ("VDD_IN", "POM_5V_IN"):
        rails[name] = int(power["tot"]["power"])
    return rails
