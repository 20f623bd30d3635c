import { STATS_TYPE, type TypedParameters, type TypedValue } from '../libvirt.ts';
import { ownError } from './native.ts';

/** libvirt's type of a parameter, by STATS_TYPE's names. */
export type ParameterType = keyof typeof STATS_TYPE;

/** The parameters a setter takes. libvirt refuses the right name with the wrong type. */
export type ParameterTable = ReadonlyMap<string, ParameterType>;

/** A parameter as the addon takes it: name, type, value; 64-bit integers as bigint. */
export type RawParameter = readonly [name: string, type: number, value: TypedValue];

function tableOf(types: { readonly [T in ParameterType]?: readonly string[] }): ParameterTable {
  const table = new Map<string, ParameterType>();
  for (const [type, names] of Object.entries(types)) {
    for (const name of names) table.set(name, type as ParameterType);
  }
  return table;
}

/** Of virDomainSetSchedulerParametersFlags. Source: libvirt-domain.h, VIR_DOMAIN_SCHEDULER_*. */
export const SCHEDULER_PARAMETERS = tableOf({
  ullong: ['cpu_shares', 'vcpu_period', 'emulator_period', 'iothread_period', 'global_period'],
  llong: ['vcpu_quota', 'emulator_quota', 'iothread_quota', 'global_quota'],
});

const IO_TUNE_RATES = ['total', 'read', 'write'].flatMap((way) =>
  ['bytes', 'iops'].flatMap((unit) => ['', '_max', '_max_length'].map((kind) => `${way}_${unit}_sec${kind}`)),
);

/** Of virDomainSetBlockIoTune, bytes or operations per second. Source: VIR_DOMAIN_BLOCK_IOTUNE_*. */
export const BLOCK_IO_TUNE_PARAMETERS = tableOf({
  ullong: [...IO_TUNE_RATES, 'size_iops_sec'],
  string: ['group_name'],
});

/** Of virDomainSetInterfaceParameters, KiB/s and, for burst, KiB. Source: VIR_DOMAIN_BANDWIDTH_*. */
export const INTERFACE_PARAMETERS = tableOf({
  uint: [
    'inbound.average',
    'inbound.peak',
    'inbound.burst',
    'inbound.floor',
    'outbound.average',
    'outbound.peak',
    'outbound.burst',
  ],
});

/** Of virDomainSetPerfEvents. Source: VIR_PERF_PARAM_*. */
export const PERF_EVENTS = tableOf({
  boolean: [
    'cmt',
    'mbmt',
    'mbml',
    'cpu_cycles',
    'instructions',
    'cache_references',
    'cache_misses',
    'branch_instructions',
    'branch_misses',
    'bus_cycles',
    'stalled_cycles_frontend',
    'stalled_cycles_backend',
    'ref_cpu_cycles',
    'cpu_clock',
    'task_clock',
    'page_faults',
    'context_switches',
    'cpu_migrations',
    'page_faults_min',
    'page_faults_maj',
    'alignment_faults',
    'emulation_faults',
  ],
});

/** Of virDomainMigrateToURI3. Source: VIR_MIGRATE_PARAM_*. */
export const MIGRATE_PARAMETERS = tableOf({
  string: [
    'migrate_uri',
    'destination_name',
    'destination_xml',
    'persistent_xml',
    'graphics_uri',
    'listen_address',
    'migrate_disks',
    'disks_uri',
    'compression',
    'tls.destination',
  ],
  ullong: ['bandwidth', 'bandwidth.postcopy', 'compression.xbzrle.cache'],
  int: [
    'disks_port',
    'compression.mt.level',
    'compression.mt.threads',
    'compression.mt.dthreads',
    'compression.zlib.level',
    'compression.zstd.level',
    'auto_converge.initial',
    'auto_converge.increment',
    'parallel.connections',
  ],
});

const INTEGER_RANGES = {
  int: [-(2n ** 31n), 2n ** 31n - 1n],
  uint: [0n, 2n ** 32n - 1n],
  llong: [-(2n ** 63n), 2n ** 63n - 1n],
  ullong: [0n, 2n ** 64n - 1n],
} as const;

/**
 * `parameters` with libvirt's types. Integers may be given as number or bigint.
 *
 * @throws {LibvirtError} LIBVIRT_ERROR.invalidArg for a name that the table lacks or a value out of its type
 */
export function encodeParameters(
  call: string,
  table: ParameterTable,
  parameters: TypedParameters,
): RawParameter[] {
  return Object.entries(parameters).map(([name, value]) => {
    const type = table.get(name);
    if (type === undefined) {
      const known = [...table.keys()].join(', ');
      throw ownError('invalidArg', call, `there is no parameter "${name}"; it takes ${known}`);
    }
    const typed = typedValue(type, value);
    if (typed === undefined) {
      throw ownError('invalidArg', call, `parameter "${name}" must be ${ruleOf(type)}, not ${shown(value)}`);
    }
    return [name, STATS_TYPE[type], typed];
  });
}

function typedValue(type: ParameterType, value: TypedValue): TypedValue | undefined {
  if (type === 'string' || type === 'boolean') return typeof value === type ? value : undefined;
  if (type === 'double') return typeof value === 'number' && Number.isFinite(value) ? value : undefined;

  // A number above 2^53 may already have lost its last bits: only a bigint can say it.
  if (typeof value !== 'bigint' && !Number.isSafeInteger(value)) return undefined;
  const integer = BigInt(value);
  const [least, most] = INTEGER_RANGES[type];
  if (integer < least || integer > most) return undefined;
  return type === 'int' || type === 'uint' ? Number(integer) : integer;
}

function ruleOf(type: ParameterType): string {
  if (type === 'string' || type === 'boolean') return `a ${type}`;
  if (type === 'double') return 'a finite number';
  const [least, most] = INTEGER_RANGES[type];
  return `an integer from ${least} to ${most}`;
}

/** Characters of a refused value that a message shows. */
const SHOWN_MAX = 60;

function shown(value: TypedValue): string {
  return `${typeof value} ${String(value).slice(0, SHOWN_MAX)}`;
}
