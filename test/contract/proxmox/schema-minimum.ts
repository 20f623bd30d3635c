import type { ApiSchema, ParameterSchema } from './schema.ts';

const NODE: ParameterSchema = { type: 'string', pattern: '[a-zA-Z0-9][a-zA-Z0-9-]*' };
const VMID: ParameterSchema = { type: 'integer', minimum: 100, maximum: 999_999_999 };
const GUEST = { node: NODE, vmid: VMID };
const maybe = (schema: ParameterSchema): ParameterSchema => ({ ...schema, optional: 1 });
const RATE = maybe({ type: 'number' });
const COUNT = maybe({ type: 'integer' });
const TEXT = maybe({ type: 'string' });

/** Parts of a disk that are known here. */
const DISK = {
  type: 'string',
  optional: 1,
  format: {
    file: { type: 'string', default_key: 1 },
    size: TEXT,
    media: maybe({ type: 'string', enum: ['cdrom', 'disk'] }),
    iothread: maybe({ type: 'boolean' }),
    mbps: RATE,
    mbps_rd: RATE,
    mbps_wr: RATE,
    mbps_rd_max: RATE,
    iops: COUNT,
    iops_rd: COUNT,
    iops_wr: COUNT,
  },
} as const;

/** Parts of an interface that are known here. */
const INTERFACE = {
  type: 'string',
  optional: 1,
  format: {
    model: { type: 'string', default_key: 1 },
    virtio: TEXT,
    bridge: TEXT,
    firewall: maybe({ type: 'boolean' }),
    rate: maybe({ type: 'number', minimum: 0 }),
    tag: COUNT,
  },
} as const;

const FIELDS_OF_STATUS = [
  'agent',
  'cpu',
  'cpus',
  'diskread',
  'diskwrite',
  'lock',
  'maxmem',
  'mem',
  'memhost',
  'name',
  'netin',
  'netout',
  'pid',
  'pressurecpusome',
  'pressureiosome',
  'pressurememorysome',
  'qmpstatus',
  'status',
  'template',
  'uptime',
  'vmid',
];

/**
 * The least of Proxmox VE's REST API that its use here rests on, in our own words: for runs without the official
 * description, and for calls that the official excerpt leaves out.
 */
export const MINIMUM: ApiSchema = {
  '/version': {
    GET: { parameters: {}, returns: { type: 'object', props: ['version', 'release', 'repoid'] } },
  },
  '/nodes/{node}/status': {
    GET: {
      parameters: { node: NODE },
      permissions: ['perm', '/nodes/{node}', ['Sys.Audit']],
      returns: { type: 'object', props: ['cpu', 'cpuinfo', 'memory', 'pveversion'] },
    },
  },
  '/nodes/{node}/qemu': {
    GET: {
      parameters: { node: NODE, full: maybe({ type: 'boolean' }) },
      returns: { type: 'array', props: FIELDS_OF_STATUS },
    },
  },
  '/nodes/{node}/qemu/{vmid}/status/current': {
    GET: {
      parameters: GUEST,
      permissions: ['perm', '/vms/{vmid}', ['VM.Audit']],
      returns: { type: 'object', props: FIELDS_OF_STATUS },
    },
  },
  '/nodes/{node}/qemu/{vmid}/status/start': {
    POST: {
      parameters: { ...GUEST, timeout: COUNT },
      permissions: ['perm', '/vms/{vmid}', ['VM.PowerMgmt']],
      returns: { type: 'string' },
    },
  },
  '/nodes/{node}/qemu/{vmid}/status/shutdown': {
    POST: {
      parameters: { ...GUEST, timeout: COUNT },
      permissions: ['perm', '/vms/{vmid}', ['VM.PowerMgmt']],
      returns: { type: 'string' },
    },
  },
  '/nodes/{node}/qemu/{vmid}/config': {
    GET: {
      parameters: { ...GUEST, current: maybe({ type: 'boolean' }) },
      permissions: ['perm', '/vms/{vmid}', ['VM.Audit']],
      returns: { type: 'object' },
    },
    POST: {
      parameters: {
        ...GUEST,
        digest: maybe({ type: 'string', maxLength: 40 }),
        delete: TEXT,
        revert: TEXT,
        cpulimit: maybe({ type: 'number', minimum: 0, maximum: 128 }),
        cpuunits: maybe({ type: 'integer', minimum: 1, maximum: 262_144 }),
        vcpus: maybe({ type: 'integer', minimum: 1 }),
        memory: maybe({
          type: 'string',
          format: { current: { type: 'integer', minimum: 16, default_key: 1 } },
        }),
        balloon: maybe({ type: 'integer', minimum: 0 }),
        shares: maybe({ type: 'integer', minimum: 0, maximum: 50_000 }),
        'scsi[n]': DISK,
        'virtio[n]': DISK,
        'net[n]': INTERFACE,
      },
      permissions: [
        'perm',
        '/vms/{vmid}',
        ['VM.Config.CPU', 'VM.Config.Memory', 'VM.Config.Disk', 'VM.Config.Network'],
        'any',
        1,
      ],
      returns: { type: 'string' },
    },
  },
  '/nodes/{node}/qemu/{vmid}/pending': {
    GET: {
      parameters: GUEST,
      permissions: ['perm', '/vms/{vmid}', ['VM.Audit']],
      returns: { type: 'array', props: ['key', 'value', 'pending', 'delete'] },
    },
  },
  '/nodes/{node}/qemu/{vmid}/agent/get-vcpus': {
    GET: {
      parameters: GUEST,
      permissions: ['perm', '/vms/{vmid}', ['VM.GuestAgent.Audit', 'VM.GuestAgent.Unrestricted'], 'any', 1],
      returns: { type: 'object' },
    },
  },
  '/nodes/{node}/tasks/{upid}/status': {
    GET: {
      parameters: { node: NODE, upid: { type: 'string' } },
      returns: {
        type: 'object',
        props: ['exitstatus', 'id', 'node', 'pid', 'pstart', 'starttime', 'status', 'type', 'upid', 'user'],
      },
    },
  },
  '/cluster/metrics/export': {
    GET: {
      parameters: {
        history: maybe({ type: 'boolean' }),
        'start-time': COUNT,
        'node-list': TEXT,
        'local-only': maybe({ type: 'boolean' }),
      },
      permissions: ['perm', '/', ['Sys.Audit']],
      returns: { type: 'object', props: ['data'] },
    },
  },
};
