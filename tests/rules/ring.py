"""The sampler's ring over a day and a half of ten notes a second: what it says of lag against what was written when, and its size."""

import importlib.util
import pathlib
import random
import sys
import types

TEMPLATES = pathlib.Path(__file__).resolve().parents[2] / "templates"


def sampler():
    """The program, without what it takes from a guest."""
    sys.modules["lab"] = sys.modules["libpq"] = types.ModuleType("stub")
    sys.modules["libpq"].Connection = object
    spec = importlib.util.spec_from_file_location("monitor", TEMPLATES / "monitoring/virtwork-monitor.py")
    module = sys.modules["monitor"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    module = sampler()
    ring, draw = module.Ring(), random.Random(1)
    hours = 36
    # position n is written at the n-th tenth of a second
    for number in range(hours * 36000):
        ring.add(number / 10, number)
    now, last = number / 10, number
    assert len(ring) < 600 * 10 + 86400 + 60 * 10 + 2, f"{len(ring)} entries"
    assert ring.lag(last, now) == (0.0, False)
    for _ in range(20000):
        behind = draw.randrange(1, 24 * 36000)
        lag, is_least = ring.lag(last - behind, now)
        truth = (behind - 1) / 10
        assert abs(lag - truth) <= (0.001 if truth < 590 else 1.001), f"{truth} s behind, {lag} by the ring"
        assert not is_least or truth > 86300
    lag, is_least = ring.lag(last - 30 * 36000, now)
    assert is_least and 86300 < lag < 86500, f"what is older than the ring: {lag}"
    assert ring.lag(None, now)[1], "what is not known"
    # idle for a day, then one more byte
    ring.add(now + 90000, last)
    assert ring.lag(last, now + 90000) == (0.0, False)
    ring.add(now + 90060, last + 1)
    assert ring.lag(last, now + 90061) == (1.0, len(ring) == 1)
    # a crash, or another history: less is written than was
    ring.add(now + 90062, last - 50)
    assert ring.lag(last - 50, now + 90063) == (0.0, False)
    ring.add(now + 90064, last - 40)
    assert ring.lag(last - 50, now + 90065)[0] == 1.0
    replica = module.Replica("db-replica-0")
    # a clock that is 300 s off; answers that are quick, then five seconds late
    for at in range(60):
        replica.take_sender(["", "streaming", "0/1", "0/1", "0/1", "0/1", str(at - 300)], at + 0.2)
        assert replica.delay == 0
    for at in range(60, 300):
        replica.take_sender(["", "streaming", "0/1", "0/1", "0/1", "0/1", str(at - 300)], at + 5.2)
        assert abs(replica.delay - 5) <= 0.5, replica.delay
    # its clock is set back by an hour: no answer is late because of that; then forward again
    for at, clock in [(at, at - 3900) for at in range(300, 360)] + [(at, at - 300) for at in range(360, 420)]:
        replica.take_sender(["", "streaming", "0/1", "0/1", "0/1", "0/1", str(clock)], at + 0.2)
        assert replica.delay == 0, (at, replica.delay)
    # what a receiver heard last does not become younger where the clock is set back
    standby = module.Sampler("db-replica-0", ("db-primary-0", "db-replica-0"), 1, False, lambda: None)
    standby.role, standby.up, standby._settings_due = "standby", True, float("inf")
    said = ["streaming", "12:00", "1.0", "0/2", "0/1", "f"]
    session = types.SimpleNamespace(rows=lambda statement: [said])
    standby._look(session)
    first = standby._heard
    said[2] = "-3599"
    standby._look(session)
    assert standby._heard == first, standby._heard - first
    said[1:3] = "11:00", "0.0"
    standby._look(session)
    assert standby._heard > first


main()
