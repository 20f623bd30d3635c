"""Goal: one call a decision; whatever the service does, the scheduler goes on within the deadline, and hosts are then alike.

Method: a server on a unix socket that hangs, drips, refuses or talks nonsense; stand-ins for Nova's objects; a clock that a
test moves where seconds pass.
"""

import json
import time
import unittest

from foreshade_nova import breaker
from foreshade_nova import caller
from foreshade_nova import desk
from foreshade_nova import ranking
from tests.unit import stand_ins

HOSTS = [stand_ins.HostState(name) for name in ('a', 'b', 'c')]
RANKED = {
    'hosts': [
        {'host': 'b', 'verdict': 'HOST_VERDICT_PASS', 'score': 0.8, 'reasons': ['60 % left']},
        {'host': 'a', 'verdict': 'HOST_VERDICT_PASS', 'score': 0.3, 'reasons': ['10 % left']},
        {'host': 'c', 'verdict': 'HOST_VERDICT_VETO', 'reasons': ['short of cpu', 'drains']},
    ],
}


def ranked(connection, _request):
    stand_ins.answer(connection, RANKED)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class CallerTest(unittest.TestCase):
    def serve(self, behaviour):
        server = stand_ins.Server(behaviour)
        self.addCleanup(server.close)
        return server

    def test_asks_and_reads(self):
        server = self.serve(ranked)
        self.assertEqual(RANKED, caller.Caller(server.url, 0.25).call('PlacementService/RankHosts', {'x': [1]}))
        head, body = server.requests[0]
        self.assertTrue(head.startswith('POST /foreshade.v1.PlacementService/RankHosts HTTP/1.1'))
        self.assertEqual({'x': [1]}, json.loads(body))

    def test_ends_by_the_deadline(self):
        for behaviour in (stand_ins.hang, stand_ins.drip):
            with self.subTest(behaviour.__name__):
                server = self.serve(behaviour)
                begun = time.monotonic()
                with self.assertRaisesRegex(caller.Unanswered, 'did not answer within 200 ms'):
                    caller.Caller(server.url, 0.2).call('X/Y', {})
                # Slower only by what the machine's other work costs; without a deadline of its own a drip lasts 20 s.
                self.assertLess(time.monotonic() - begun, 2.0)

    def test_what_is_no_answer(self):
        for name, behaviour, expected in (
            ('cut off', lambda connection, _: connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{'), caller.Unanswered),
            ('closed', lambda connection, _: None, caller.Unanswered),
            ('no HTTP', lambda connection, _: connection.sendall(b'\x00' * 100), caller.Unanswered),
            ('no JSON', lambda connection, _: stand_ins.answer(connection, b'<html>'), caller.Unanswered),
            ('a list', lambda connection, _: stand_ins.answer(connection, []), caller.Unanswered),
            ('503', lambda connection, _: stand_ins.answer(connection, {'message': 'down'}, 503), caller.Unanswered),
            ('429', lambda connection, _: stand_ins.answer(connection, {'message': 'full'}, 429), caller.Unanswered),
            ('400', lambda connection, _: stand_ins.answer(connection, {'message': 'bad'}, 400), caller.Refused),
        ):
            with self.subTest(name):
                server = self.serve(behaviour)
                with self.assertRaises(caller.Unanswered) as caught:
                    caller.Caller(server.url, 1.0).call('X/Y', {})
                self.assertIs(expected, type(caught.exception))
        with self.assertRaisesRegex(caller.Unanswered, 'FileNotFoundError'):
            caller.Caller('unix:/nonexistent/socket', 1.0).call('X/Y', {})
        with self.assertRaisesRegex(ValueError, 'must be unix:/path or http://'):
            caller.Caller('https://example.org', 1.0)

    def test_too_long_an_answer_is_not_read(self):
        endless = b'HTTP/1.1 200 OK\r\n\r\n' + b'[' * (caller.ANSWER_BYTES_MAX + 10)
        server = self.serve(lambda connection, _: connection.sendall(endless))
        with self.assertRaisesRegex(caller.Unanswered, 'longer than'):
            caller.Caller(server.url, 10.0).call('X/Y', {})


class BreakerTest(unittest.TestCase):
    def test_pauses_after_a_failure_then_tries_once(self):
        clock = Clock()
        one = breaker.Breaker(5.0, clock)
        self.assertTrue(one.allows() and one.allows())
        one.failed()
        clock.now += 4.9
        self.assertFalse(one.allows())
        clock.now += 0.2
        self.assertTrue(one.allows())
        self.assertFalse(one.allows(), 'while one is tried no other is')
        one.failed()
        clock.now += 4.9
        self.assertFalse(one.allows())
        clock.now += 0.2
        self.assertTrue(one.allows())
        one.succeeded()
        self.assertTrue(one.allows() and one.allows())

    def test_a_try_that_never_reports_back_is_followed_by_another(self):
        clock = Clock()
        one = breaker.Breaker(5.0, clock)
        one.failed()
        clock.now += 5.1
        self.assertTrue(one.allows())
        clock.now += 5.1
        self.assertTrue(one.allows())


class DeskTest(unittest.TestCase):
    def desk(self, behaviour, clock=time.monotonic, **changes):
        self.server = stand_ins.Server(behaviour)
        self.addCleanup(self.server.close)
        return desk.Desk(stand_ins.Options(self.server.url, **changes), clock)

    def test_one_call_a_decision(self):
        one = self.desk(ranked)
        spec = stand_ins.spec_of()
        asked = one.ask(HOSTS, spec)
        self.assertIs(asked, one.answer(HOSTS[:2], spec))
        self.assertEqual(1, len(self.server.requests))
        one.answer(HOSTS, spec)
        self.assertEqual(2, len(self.server.requests), 'an answer is for one decision')
        one.answer(HOSTS, stand_ins.spec_of('i-2'))
        self.assertEqual(3, len(self.server.requests), 'and for no other instance')

    def test_an_old_answer_is_not_used(self):
        clock = Clock()
        one = self.desk(ranked, clock)
        one.ask(HOSTS, stand_ins.spec_of())
        clock.now += desk.KEPT_S + 1
        one.answer(HOSTS, stand_ins.spec_of())
        self.assertEqual(2, len(self.server.requests))

    def test_answers_that_nobody_fetches_are_bounded(self):
        one = self.desk(ranked)
        for i in range(desk.KEPT_MAX + 10):
            one._breaker.failed()
            one.ask(HOSTS, stand_ins.spec_of(f'i-{i}'))
        self.assertEqual(desk.KEPT_MAX, len(one._kept))

    def test_says_what_is_asked_for(self):
        one = self.desk(ranked, goal='pack')
        hosts = [stand_ins.HostState('a', [('x', 'acme'), ('y', 'other'), ('i-1', 'acme')]), stand_ins.HostState('b')]
        hints = {'foreshade:workload': ['encode'], 'foreshade:param:rows': ['2e6'], 'group': ['g']}
        extra_specs = {'foreshade:workload': 'other', 'foreshade:priority': 'high', 'hw:mem_page_size': 'large'}
        one.ask(hosts, stand_ins.spec_of(hints=hints, extra_specs=extra_specs))
        self.assertEqual({
            'hosts': ['a', 'b'],
            'guests': {'a': 3, 'b': 0},
            'tenant': 'acme',
            'tenant_guests': {'a': 1},
            'ceiling': {'cpu_millicores': 2000, 'memory_bytes': str(2048 * 1024 * 1024)},
            'goal': 'PLACEMENT_GOAL_PACK',
            'workload': 'encode',
            'priority': 'PRIORITY_HIGH',
            'params': {'rows': {'number': 2e6}},
        }, json.loads(self.server.requests[0][1]))

    def test_the_compute_services_name_where_told_to(self):
        one = self.desk(ranked, host_key='host')
        one.ask(HOSTS, stand_ins.spec_of())
        self.assertEqual(['compute-a', 'compute-b', 'compute-c'], json.loads(self.server.requests[0][1])['hosts'])

    def test_a_failure_is_not_repeated_for_a_while_and_said_once(self):
        clock = Clock()
        one = self.desk(lambda connection, _: stand_ins.answer(connection, {'message': 'down'}, 503), clock)
        with self.assertLogs('foreshade_nova.desk') as logs:
            for i in range(5):
                spec = stand_ins.spec_of(f'i-{i}')
                self.assertIsNone(one.ask(HOSTS, spec))
                self.assertIsNone(one.answer(HOSTS, spec), 'the weigher does not ask again')
        self.assertEqual(1, len(self.server.requests))
        self.assertEqual(1, len(logs.output))
        self.assertIn('Foreshade is not asked for 5.0 s, hosts pass and weigh alike: it answered 503: down', logs.output[0])
        clock.now += 5.1
        one.ask(HOSTS, stand_ins.spec_of())
        self.assertEqual(2, len(self.server.requests))

    def test_a_refused_request_does_not_take_the_others_along(self):
        one = self.desk(lambda connection, _: stand_ins.answer(connection, {'message': 'params must'}, 400))
        with self.assertLogs('foreshade_nova.desk') as logs:
            self.assertIsNone(one.ask(HOSTS, stand_ins.spec_of()))
            self.assertIsNone(one.ask(HOSTS, stand_ins.spec_of('i-2')))
        self.assertEqual(2, len(self.server.requests))
        self.assertIn('instance i-1', logs.output[0])

    def test_nothing_it_is_told_makes_it_raise(self):
        for document in ({'hosts': 7}, {'hosts': [7]}, {'hosts': [{'host': ['x']}]}, {}):
            with self.subTest(document):
                one = self.desk(lambda connection, _, document=document: stand_ins.answer(connection, document))
                found = one.ask(HOSTS, stand_ins.spec_of())
                if found is not None:
                    self.assertIsNone(found.veto('a'))
                    self.assertEqual(0.0, found.score('a'))

    def test_no_hosts_no_call(self):
        one = self.desk(ranked)
        self.assertIsNone(one.ask([], stand_ins.spec_of()))
        self.assertEqual([], self.server.requests)


class RankingTest(unittest.TestCase):
    def test_scores_are_numbers_whatever_comes(self):
        for said in ('NaN', 'Infinity', float('inf'), float('nan'), None, True, [], -3, 1e300, '0.5'):
            with self.subTest(said):
                found = ranking.Ranking({'hosts': [{'host': 'a', 'score': said}, {'host': 'b', 'score': 0.25}]})
                score = found.score('a')
                self.assertTrue(0.0 <= score <= 1.0)
                if said not in (-3, 1e300):
                    self.assertEqual(0.25, score, 'as one of which nothing is known')

    def test_an_unknown_host_is_in_the_middle_and_passes(self):
        found = ranking.Ranking(RANKED)
        self.assertEqual([0.3, 0.8, 0.0], [found.score(host) for host in ('a', 'b', 'c')])
        self.assertEqual(0.3, found.score('z'))
        self.assertIsNone(found.veto('z'))
        self.assertEqual('short of cpu; drains', found.veto('c'))
        self.assertIsNone(found.veto('a'))
        self.assertEqual('no reason given', found.why('z'))

    def test_no_more_hosts_than_one_call_takes(self):
        asked = ranking.question({str(i): 0 for i in range(1500)}, (1, 1), '', {}, {}, 'spread')
        self.assertEqual(ranking.HOSTS_MAX, len(asked['hosts']))
        self.assertEqual(set(asked['hosts']), set(asked['guests']))


if __name__ == '__main__':
    unittest.main()
