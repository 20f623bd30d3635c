"""Goal: Watcher finds the scoring engines by their entry point, and they give what the service says.

Method: Watcher's own loader and base classes, the real service.
"""

import json
import unittest

from oslo_config import cfg
from watcher.decision_engine.loading import default
from watcher.decision_engine.scoring import base

from foreshade_nova import caller
from tests.functional.real_service import Service


class ScoringTest(unittest.TestCase):
    def setUp(self):
        self.service = Service()
        self.addCleanup(self.service.close)
        self.engines = self.load()

    def load(self):
        container = default.DefaultScoringContainerLoader().list_available()['foreshade']
        self.assertTrue(issubclass(container, base.ScoringEngineContainer))
        container.get_scoring_engine_list()
        cfg.CONF.set_override('url', self.service.url, group='foreshade')
        return {engine.get_name(): engine for engine in container.get_scoring_engine_list()}

    def test_ranks_hosts(self):
        for host, share in (('node-1', 0.5), ('node-2', 0.1), ('node-3', 1.0)):
            self.service.report(host, share)
        engine = self.engines['foreshade_rank_hosts']
        self.assertIsInstance(engine, base.ScoringEngine)
        self.assertEqual('foreshade.v1.PlacementService/RankHosts', json.loads(engine.get_metainfo())['method'])
        features = {'ceiling': {'cpu_millicores': 1000, 'memory_bytes': str(1 << 30)}, 'hosts': ['node-1', 'node-2', 'node-3']}
        ranked = json.loads(engine.calculate_score(json.dumps(features)))['hosts']
        self.assertEqual(['node-2', 'node-1', 'node-3'], [host['host'] for host in ranked])
        self.assertEqual('HOST_VERDICT_VETO', ranked[2]['verdict'])

    def test_lists_hosts(self):
        self.service.report('node-1', 0.5)
        hosts = json.loads(self.engines['foreshade_hosts'].calculate_score('{}'))['hosts']
        self.assertIn('node-1', [host['report']['host'] for host in hosts])

    def test_says_what_is_wrong(self):
        engine = self.engines['foreshade_rank_hosts']
        for features in ('', '[]', 'nonsense'):
            with self.assertRaises(ValueError):
                engine.calculate_score(features)
        with self.assertRaises(caller.Refused):
            engine.calculate_score('{}')
        self.service.close()
        with self.assertRaises(caller.Unanswered):
            engine.calculate_score(json.dumps({'ceiling': {'cpu_millicores': 1, 'memory_bytes': '1'}}))


if __name__ == '__main__':
    unittest.main()
