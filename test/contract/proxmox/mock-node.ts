import t from 'tap';
import { ProxmoxApi } from '../../../integrations/proxmox/api.ts';
import { makeCertificate } from './certificate.ts';
import { FastClock } from './fast-clock.ts';
import { MockProxmox, type Privileges } from './mock-proxmox.ts';

/** The least that a token needs, as docs/proxmox.md lists it. */
export const LEAST_PRIVILEGES: Privileges = {
  '/vms': [
    'VM.Audit',
    'VM.Config.CPU',
    'VM.Config.Memory',
    'VM.Config.Disk',
    'VM.Config.Network',
    'VM.GuestAgent.Audit',
    'VM.PowerMgmt',
  ],
  '/nodes/pve1': ['Sys.Audit'],
};

/** Privileges with which also the export of metrics is had. */
export const WITH_EXPORT: Privileges = { ...LEAST_PRIVILEGES, '/': ['Sys.Audit'] };

/** A mocked node, an API that trusts it by its fingerprint, and a clock they share. */
export interface MockNode {
  readonly mock: MockProxmox;
  readonly api: ProxmoxApi;
  readonly clock: FastClock;
  readonly url: string;
  readonly fingerprint: string;
}

/** Start a mocked node; the file is skipped where no certificate can be made. */
export async function startMockNode(
  options: { readonly speed?: number; readonly timeoutMs?: number } = {},
): Promise<MockNode> {
  const certificate = makeCertificate();
  if (certificate === undefined) {
    t.plan(0, 'openssl is not installed: no certificate can be made');
    process.exit(0);
  }
  const clock = new FastClock(options.speed ?? 10);
  const mock = new MockProxmox(clock, certificate);
  mock.privileges = LEAST_PRIVILEGES;
  const url = await mock.listen();
  const { fingerprint } = certificate;
  const { timeoutMs } = options;
  const api = new ProxmoxApi({
    url,
    fingerprint,
    readToken: () => mock.token,
    ...(timeoutMs !== undefined && { timeoutMs }),
  });
  t.teardown(async () => {
    api.close();
    await mock.close();
  });
  t.comment(`checked against the ${mock.schemaOrigin} schema`);
  return { mock, api, clock, url, fingerprint };
}
