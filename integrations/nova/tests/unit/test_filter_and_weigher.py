"""Goal: the filter takes out what is vetoed and nothing else, the weigher gives finite weights, and both cost one call.

Method: Nova stubbed, so that this runs anywhere; `tests/functional` has the real one.
"""

import math
import sys
import types
import unittest
from unittest import mock

from tests.unit import stand_ins
from tests.unit.test_desk import HOSTS, RANKED, ranked


def stub_modules():
    """What the filter and the weigher import of Nova and oslo.config, as little of it as they use."""
    def module(name, **members):
        made = types.ModuleType(name)
        made.__dict__.update(members)
        return made

    conf = module('nova.conf', CONF=object())
    filters = module('nova.scheduler.filters', BaseHostFilter=object)
    weights = module('nova.scheduler.weights', BaseHostWeigher=object)
    utils = module(
        'nova.scheduler.utils',
        request_is_rebuild=lambda spec: (spec.scheduler_hints or {}).get('_nova_check_type') == ['rebuild'],
        get_weight_multiplier=lambda host, name, configured: configured,
    )
    scheduler = module('nova.scheduler', filters=filters, weights=weights, utils=utils)
    made = [module('nova', conf=conf, scheduler=scheduler), conf, scheduler, filters, weights, utils]
    cfg = mock.MagicMock()
    made += [module('oslo_config', cfg=cfg)]
    return {one.__name__: one for one in made}


OURS = ('foreshade_nova.conf', 'foreshade_nova.filter', 'foreshade_nova.weigher')


class Weighed:
    def __init__(self, obj):
        self.obj = obj


class FilterAndWeigherTest(unittest.TestCase):
    def setUp(self):
        stubbed = mock.patch.dict(sys.modules, stub_modules())
        stubbed.start()
        self.addCleanup(stubbed.stop)
        for name in OURS:
            sys.modules.pop(name, None)
        from foreshade_nova import conf, desk, filter, weigher
        self.conf = conf
        self.module = filter
        self.weigher_module = weigher
        desk.forget()
        self.addCleanup(desk.forget)

    def start(self, behaviour, **changes):
        self.server = stand_ins.Server(behaviour)
        self.addCleanup(self.server.close)
        options = stand_ins.Options(self.server.url, **changes)
        with mock.patch.object(self.conf, 'register', return_value=options):
            return self.module.ForeshadeFilter(), self.weigher_module.ForeshadeWeigher()

    def test_vetoed_hosts_go_and_the_rest_is_weighed_from_the_same_answer(self):
        one, other = self.start(ranked)
        spec = stand_ins.spec_of()
        with self.assertLogs('foreshade_nova') as logs:
            passed = one.filter_all(iter(HOSTS), spec)
            weights = other.weigh_objects([Weighed(host) for host in passed], spec)
        self.assertEqual(['a', 'b'], [host.nodename for host in passed])
        self.assertEqual([0.3, 0.8], weights)
        self.assertEqual(1, len(self.server.requests))
        self.assertIn('vetoes host c for instance i-1: short of cpu; drains', logs.output[0])
        self.assertIn('ranks host b first of 2 for instance i-1, at 0.800: 60 % left', logs.output[1])
        self.assertEqual(100.0, other.weight_multiplier(passed[0]))

    def test_without_vetoes_they_weigh_least(self):
        one, other = self.start(ranked, veto=False)
        spec = stand_ins.spec_of()
        self.assertEqual(HOSTS, one.filter_all(HOSTS, spec))
        self.assertEqual([0.3, 0.8, 0.0], other.weigh_objects([Weighed(host) for host in HOSTS], spec))

    def test_without_an_answer_all_pass_and_weigh_alike(self):
        for behaviour in (stand_ins.hang, lambda connection, _: None):
            one, other = self.start(behaviour, deadline_ms=50)
            spec = stand_ins.spec_of()
            with self.assertLogs('foreshade_nova.desk'):
                self.assertEqual(HOSTS, one.filter_all(HOSTS, spec))
            self.assertEqual([0.0, 0.0, 0.0], other.weigh_objects([Weighed(host) for host in HOSTS], spec))
            self.assertEqual(1, len(self.server.requests))
            from foreshade_nova import desk
            desk.forget()

    def test_a_rebuild_is_not_asked_about(self):
        one, _ = self.start(ranked)
        spec = stand_ins.spec_of(hints={'_nova_check_type': ['rebuild']})
        self.assertEqual(HOSTS, one.filter_all(HOSTS, spec))
        self.assertEqual([], self.server.requests)

    def test_the_weigher_alone_asks_itself(self):
        _, other = self.start(ranked)
        self.assertEqual([0.3, 0.8, 0.0], other.weigh_objects([Weighed(host) for host in HOSTS], stand_ins.spec_of()))

    def test_weights_are_finite_whatever_is_said(self):
        document = {'hosts': [{'host': 'a', 'score': 'NaN'}, {'host': 'b', 'score': 1e999}, RANKED['hosts'][0]]}
        one, other = self.start(lambda connection, _: stand_ins.answer(connection, document))
        weights = other.weigh_objects([Weighed(host) for host in HOSTS], stand_ins.spec_of())
        self.assertTrue(all(math.isfinite(weight) and 0 <= weight <= 1 for weight in weights))
        self.assertIsNotNone(one)


if __name__ == '__main__':
    unittest.main()
