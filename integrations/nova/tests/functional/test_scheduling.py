"""Goal: Nova boots guests where Foreshade ranks first and never where it vetoes, and boots them as before without Foreshade.

Method: Nova's own functional test, with its API, conductor, scheduler and Placement and five fake computes; the real Foreshade
service over a hypervisor in memory, in a process that a test kills or stops. Hosts report through ReportHost as agents would.
Decisions are counted by the service's own metrics.
"""

import os
import signal
import statistics
import time
import uuid

from nova import conf
from nova import exception
from nova import objects
from nova.api.validation.extra_specs import validators
from nova.scheduler import filters
from nova.scheduler import host_manager
from nova.scheduler import weights
from nova.tests.functional import integrated_helpers
from nova.tests.functional.api import client as api_client

from foreshade_nova import caller
from foreshade_nova import desk
from foreshade_nova import filter as our_filter
from tests.functional.real_service import Service

CONF = conf.CONF
COMPUTES = tuple(f'node-{i}' for i in range(1, 6))
def prepare(test, url, **options):
    """Have Nova load our filter and weigher, beside its own."""
    our_filter.conf.register(CONF)
    desk.forget()
    test.addCleanup(desk.forget)
    test.flags(url=url, group='foreshade', **options)
    test.flags(
        available_filters=['nova.scheduler.filters.all_filters', 'foreshade_nova.filter.ForeshadeFilter'],
        enabled_filters=[*CONF.filter_scheduler.enabled_filters, 'ForeshadeFilter'],
        weight_classes=['nova.scheduler.weights.all_weighers', 'foreshade_nova.weigher.ForeshadeWeigher'],
        group='filter_scheduler',
    )


class BootTest(integrated_helpers.ProviderUsageBaseTestCase):
    compute_driver = 'fake.MediumFakeDriver'

    def setUp(self):
        self.service = Service()
        self.addCleanup(self.service.close)
        paste = os.environ.get('FORESHADE_API_PASTE')
        if paste:
            self.flags(api_paste_config=paste, group='wsgi')
        prepare(self, self.service.url)
        super().setUp()
        for name in COMPUTES:
            self._start_compute(name)

    def boot(self, **request):
        """:returns: the host it came to, and how long it took until it was there"""
        server = self._build_server(networks='none', **request.pop('server', {}))
        begun = time.monotonic()
        created = self.api.post_server({'server': server, **request})
        active = self._wait_for_state_change(created, 'ACTIVE')
        return active['OS-EXT-SRV-ATTR:host'], time.monotonic() - begun

    def report_all(self, shares):
        for name, share in zip(COMPUTES, shares):
            self.service.report(name, share)

    def test_boots_go_to_the_first_and_never_to_a_vetoed_one(self):
        for shares, best in (
            ((0.5, 0.1, 0.5, 0.5, 0.5), 'node-2'),
            ((0.5, 0.6, 0.5, 0.7, 0.2), 'node-5'),
            ((1.0, 1.0, 1.0, 0.8, 1.0), 'node-4'),
            ((0.05, 0.3, 0.3, 0.3, 0.3), 'node-1'),
        ):
            self.report_all(shares)
            before = self.service.decisions()
            host, _ = self.boot()
            self.assertEqual(best, host)
            self.assertEqual(1, self.service.decisions() - before, 'one call a decision')

    def test_several_guests_of_one_request_are_ranked_each(self):
        self.report_all((0.9, 0.1, 0.9, 0.9, 0.9))
        before = self.service.decisions()
        server = self._build_server(networks='none')
        server.update({'min_count': 3, 'max_count': 3})
        self.api.post_server({'server': server})
        for created in self.api.get_servers(detail=False):
            active = self._wait_for_state_change(created, 'ACTIVE')
            self.assertEqual('node-2', active['OS-EXT-SRV-ATTR:host'])
        # One each, and one for the alternates, for which Nova filters and weighs once more.
        self.assertEqual(4, self.service.decisions() - before)

    def test_guests_that_come_together_do_not_all_go_to_one_host(self):
        # Each takes a tenth of a host: four or five of them make the emptiest as full as the others.
        self.report_all((0.1, 0.5, 0.5, 0.5, 0.5))
        server = self._build_server(networks='none')
        server.update({'min_count': 7, 'max_count': 7})
        self.api.post_server({'server': server})
        hosts = [self._wait_for_state_change(created, 'ACTIVE')['OS-EXT-SRV-ATTR:host']
                 for created in self.api.get_servers(detail=False)]
        self.assertEqual(7, len(hosts))
        self.assertIn(hosts.count('node-1'), (4, 5), hosts)

    def test_a_cloud_that_is_full_by_foreshade_refuses(self):
        self.report_all((1.0,) * 5)
        created = self.api.post_server({'server': self._build_server(networks='none')})
        self._wait_for_state_change(created, 'ERROR')
        self.service.report('node-3', 1.0, draining=True)
        self.flags(veto=False, group='foreshade')
        self.boot()

    def test_unknown_hosts_are_neutral(self):
        self.service.report('node-2', 0.9)
        self.service.report('node-4', 0.1)
        host, _ = self.boot()
        self.assertEqual('node-4', host, 'better than those of which nothing is known')
        self.service.report('node-4', 1.0)
        host, _ = self.boot()
        self.assertNotEqual('node-4', host)

    def test_hints_and_extra_specs_reach_the_forecast(self):
        # A workload that is known to need little fits where its whole flavor would not.
        for _ in range(10):
            lease = self.service.call('AllocationService/Allocate', {
                'guest': 'alpha', 'workload': 'tiny', 'tenant': self.api.project_id})
            self.service.call('AllocationService/ReleaseLease', {'lease_id': lease['id']})
        asked = []
        original = caller.Caller.call

        def spy(one, method, body):
            answer = original(one, method, body)
            asked.append((body, answer))
            return answer

        self.report_all((0.5, 0.4, 0.3, 0.2, 0.1))
        flavor = self.api.get_flavors()[0]['id']
        self.api.post_extra_spec(flavor, {'extra_specs': {
            'foreshade:workload': 'other', 'foreshade:param:mode': 'fast'}})
        self.stub_out('foreshade_nova.caller.Caller.call', spy)
        host, _ = self.boot(server={'flavor_id': flavor}, **{'os:scheduler_hints': {
            'foreshade:workload': 'tiny', 'foreshade:param:rows': '7'}})
        self.assertEqual('node-5', host)
        body, answer = asked[0]
        self.assertEqual('tiny', body['workload'])
        self.assertEqual({'mode': {'category': 'fast'}, 'rows': {'number': 7.0}}, body['params'])
        self.assertEqual(10, answer['demand']['runs'])
        self.assertLess(float(answer['demand']['peak']['cpuMillicores']), body['ceiling']['cpu_millicores'])

    def test_the_api_checks_extra_specs(self):
        flavor = self.api.get_flavors()[0]['id']
        self.api.microversion = 'latest'
        for name, value in (('foreshade:priority', 'urgent'), ('foreshade:colour', 'red'), ('foreshade:duration_s', 'x')):
            refused = self.assertRaises(
                api_client.OpenStackApiException, self.api.post_extra_spec, flavor, {'extra_specs': {name: value}})
            self.assertEqual(400, refused.response.status_code)
        self.api.post_extra_spec(flavor, {'extra_specs': {
            'foreshade:workload': 'encode', 'foreshade:priority': 'high', 'foreshade:param:dump:size': '64MiB'}})

    def test_without_foreshade_boots_succeed_with_the_deadline_added_once(self):
        self.report_all((0.5,) * 5)
        self.boot()
        for how, number in (('hung', signal.SIGSTOP), ('dead', signal.SIGKILL)):
            desk.forget()
            self.service.signal(number)
            spent = []
            calls = []
            original = desk.Desk._ask
            original_call = caller.Caller.call

            def timed(one, *rest):
                begun = time.monotonic()
                try:
                    return original(one, *rest)
                finally:
                    spent.append((time.monotonic() - begun) * 1000)

            def counted(one, *rest):
                calls.append(rest)
                return original_call(one, *rest)

            self.stub_out('foreshade_nova.desk.Desk._ask', timed)
            self.stub_out('foreshade_nova.caller.Caller.call', counted)
            begun = time.monotonic()
            for _ in range(3):
                self.boot()
            took = time.monotonic() - begun
            self.stub_out('foreshade_nova.desk.Desk._ask', original)
            self.stub_out('foreshade_nova.caller.Caller.call', original_call)
            self.assertEqual(3, len(spent))
            # The breaker's pause of 5 s may pass while a busy machine boots.
            self.assertLessEqual(len(calls), 1 + int(took / CONF.foreshade.breaker_s), 'one call, and then none')
            self.assertGreaterEqual(len(calls), 1)
            print(f'\n{how}: 3 boots in {took:.1f} s, {len(calls)} of them asked; Foreshade added '
                  f'{", ".join(f"{ms:.1f}" for ms in spent)} ms, the work of others in this one process included')
            self.service.signal(signal.SIGCONT)


class ManyHostsTest(integrated_helpers.test.TestCase):
    """Nova's own filter and weight handlers over 300 host states."""

    HOSTS = 300
    ROUNDS = 40

    def setUp(self):
        super().setUp()
        self.service = Service()
        self.addCleanup(self.service.close)
        prepare(self, self.service.url)
        self.states = [self.host_state(i) for i in range(self.HOSTS)]
        self.filters = filters.HostFilterHandler()
        self.weights = weights.HostWeightHandler()
        [chosen] = self.filters.get_matching_classes(['foreshade_nova.filter.ForeshadeFilter'])
        [weigher] = self.weights.get_matching_classes(['foreshade_nova.weigher.ForeshadeWeigher'])
        self.filter = chosen()
        self.weigher = weigher()

    def host_state(self, i):
        """A tenth of the hosts is too full; of the others every fiftieth is the emptiest."""
        name = f'host-{i:03d}'
        share = 0.95 if i % 10 == 0 else 0.2 + (i % 50) / 100
        self.service.report(name, share, cpu_by_hour=[1000.0 + i] * 24, guests=10)
        state = host_manager.HostState(name, name, uuid.uuid4().hex)
        state.num_instances = 10
        state.instances = {
            f'{name}-{n}': objects.Instance(project_id='acme' if n == 0 else 'other') for n in range(10)}
        return state

    def decide(self):
        """:returns: the hosts that pass, best first, and how long it took in ms"""
        spec = objects.RequestSpec(
            instance_uuid=str(uuid.uuid4()), project_id='acme', scheduler_hints={'foreshade:workload': ['w']},
            flavor=objects.Flavor(vcpus=1, memory_mb=512, extra_specs={}))
        begun = time.monotonic()
        passed = self.filters.get_filtered_objects([self.filter], self.states, spec)
        weighed = self.weights.get_weighed_objects([self.weigher], passed, spec)
        return [one.obj.host for one in weighed], (time.monotonic() - begun) * 1000

    def test_one_call_a_decision_at_300_hosts(self):
        before = self.service.decisions()
        times = []
        for _ in range(self.ROUNDS):
            hosts, took_ms = self.decide()
            times.append(took_ms)
            self.assertEqual(270, len(hosts))
            self.assertEqual('host-001', hosts[0])
        self.assertEqual(self.ROUNDS, self.service.decisions() - before)
        print(f'\n300 hosts, filter and weigher: p50 {statistics.median(times):.1f} ms, worst {max(times):.1f} ms '
              '(bar: 60 ms at p50)')

    def test_a_service_that_hangs_or_is_dead_leaves_the_order_as_it_was(self):
        for how, number in (('hung', signal.SIGSTOP), ('dead', signal.SIGKILL)):
            desk.forget()
            self.service.signal(number)
            decisions = [self.decide() for _ in range(3)]
            self.service.signal(signal.SIGCONT)
            for hosts, _ in decisions:
                self.assertEqual([state.host for state in self.states], hosts)
            added = ', '.join(f'{took_ms:.1f}' for _, took_ms in decisions)
            print(f'\n{how}, 300 hosts: three decisions in a row took {added} ms (bar: 250 ms added, once per 5 s)')


class ValidatorsTest(integrated_helpers.test.TestCase):
    def test_the_entry_point_is_found(self):
        validators.validate('foreshade:param:input_mib:number', '64')
        self.assertRaises(exception.ValidationError, validators.validate, 'foreshade:nonsense', '1')
