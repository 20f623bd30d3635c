"""Goal: hints and extra specs become the request's fields, hints first; what is not understood is said and left out.

Method: a table of what is written and what comes of it.
"""

import unittest

from foreshade_nova import production_input


class ProductionInputTest(unittest.TestCase):
    def test_params_by_kind(self):
        for name, value, expected in (
            ('rows', '2e6', {'number': 2e6}),
            ('mode', 'fast', {'category': 'fast'}),
            ('mode', 'nan', {'category': 'nan'}),
            ('build:category', '7', {'category': '7'}),
            ('note:text', 'a: b', {'text': 'a: b'}),
            ('dump:size', '4096', {'size_bytes': '4096'}),
            ('dump:size', '64MiB', {'size_bytes': str(64 << 20)}),
            ('due:time', '1800000000000', {'time_ms': '1800000000000'}),
        ):
            with self.subTest(name=name, value=value):
                fields = production_input.of_request({'foreshade:param:' + name: value}, None)
                self.assertEqual({'params': {name.split(':')[0]: expected}}, fields)

    def test_what_is_not_understood(self):
        for name, value in (
            ('foreshade:param:rows:number', 'many'),
            ('foreshade:param:dump:size', '-1'),
            ('foreshade:param:due:time', 'tomorrow'),
            ('foreshade:param:x', ''),
            ('foreshade:param:a b', '1'),
            ('foreshade:priority', 'urgent'),
            ('foreshade:duration_s', '0'),
            ('foreshade:duration_s', '1.5'),
            ('foreshade:workload', 'w' * 257),
            ('foreshade:colour', 'red'),
        ):
            with self.subTest(name=name, value=value), self.assertLogs('foreshade_nova.production_input') as logs:
                self.assertEqual({'workload': 'w'} if 'workload' not in name else {}, production_input.of_request(
                    {name: value, **({} if 'workload' in name else {'foreshade:workload': 'w'})}, None))
                self.assertIn(name, logs.output[0])

    def test_hints_win_over_the_flavor(self):
        fields = production_input.of_request(
            {'foreshade:workload': 'a', 'foreshade:priority': 'low', 'foreshade:param:x': '1', 'quota:cpu_quota': '5'},
            {'foreshade:workload': ['b'], 'foreshade:duration_s': ['60'], 'foreshade:param:x': [], 'group': ['g']})
        self.assertEqual({
            'workload': 'b', 'priority': 'PRIORITY_LOW', 'duration_ms': '60000', 'params': {'x': {'number': 1.0}},
        }, fields)

    def test_no_more_parameters_than_the_contract_takes(self):
        many = {f'foreshade:param:p{i}': '1' for i in range(70)}
        with self.assertLogs('foreshade_nova.production_input') as logs:
            fields = production_input.of_request(many, None)
        self.assertEqual(production_input.PARAMS_MAX, len(fields['params']))
        self.assertEqual(6, len(logs.output))

    def test_none_at_all(self):
        self.assertEqual({}, production_input.of_request(None, None))


if __name__ == '__main__':
    unittest.main()
