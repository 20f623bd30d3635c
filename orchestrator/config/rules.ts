/** A rule between keys. It is checked when each of its keys is valid by itself. */
export interface CrossRule {
  /** Dotted paths; a problem is reported at the first. */
  readonly keys: readonly string[];
  readonly rule: string;
  readonly holds: (...values: readonly unknown[]) => boolean;
}

const atMost = (a: unknown, b: unknown): boolean => (a as number) <= (b as number);
const differ = (a: unknown, b: unknown): boolean => a === undefined || a !== b;
const goesWith = (a: unknown, b: unknown): boolean => a !== undefined || b === undefined;

/** Every rule that no key can state alone. */
export const CROSS_RULES: readonly CrossRule[] = [
  {
    keys: ['engine.quantile.low', 'engine.quantile.normal'],
    rule: 'must not exceed engine.quantile.normal: a higher priority is never given less',
    holds: atMost,
  },
  {
    keys: ['engine.quantile.normal', 'engine.quantile.high'],
    rule: 'must not exceed engine.quantile.high: a higher priority is never given less',
    holds: atMost,
  },
  {
    keys: ['engine.quantile.high', 'engine.quantile.critical'],
    rule: 'must not exceed engine.quantile.critical: a higher priority is never given less',
    holds: atMost,
  },
  {
    keys: ['engine.deadband_fraction', 'engine.shrink_step_fraction'],
    rule: 'must be below engine.shrink_step_fraction: else no step ever leaves the dead band',
    holds: (deadband, step) => (deadband as number) < (step as number),
  },
  {
    keys: ['telemetry.fast_period_ms', 'telemetry.full_period_ms'],
    rule: 'must not exceed telemetry.full_period_ms',
    holds: atMost,
  },
  {
    keys: ['telemetry.full_period_ms', 'telemetry.idle_period_ms'],
    rule: 'must not exceed telemetry.idle_period_ms: an idle guest is not read more often',
    holds: atMost,
  },
  {
    keys: ['telemetry.full_period_ms', 'engine.tick_ms'],
    rule: 'must not exceed engine.tick_ms: a tick without a new sample decides on nothing',
    holds: atMost,
  },
  {
    keys: ['shadow.raw_days', 'shadow.minute_days'],
    rule: 'must not exceed shadow.minute_days: what is coarser is kept for longer',
    holds: atMost,
  },
  {
    keys: ['shadow.minute_days', 'shadow.hour_days'],
    rule: 'must not exceed shadow.hour_days: what is coarser is kept for longer',
    holds: (minutes, hours) => hours === undefined || atMost(minutes, hours),
  },
  {
    keys: ['proxmox.node', 'proxmox.url'],
    rule: 'must be given where proxmox.url is: one node is driven',
    holds: goesWith,
  },
  {
    keys: ['proxmox.token_file', 'proxmox.url'],
    rule: 'must be given where proxmox.url is: nothing is told without a token',
    holds: goesWith,
  },
  {
    keys: ['service.http_socket', 'service.socket'],
    rule: 'must differ from service.socket: one socket speaks one protocol',
    holds: differ,
  },
  {
    keys: ['service.http_port_api', 'service.http_port'],
    rule: 'needs service.http_port: without a port there is nothing to serve it on',
    holds: (isServed, port) => isServed !== true || port !== undefined,
  },
  {
    keys: ['service.http_port', 'service.tcp'],
    rule: 'must differ from the port of service.tcp: one port speaks one protocol',
    holds: (port, tcp) =>
      port === undefined || tcp === undefined || !(tcp as string).endsWith(`:${port as number}`),
  },
  {
    keys: ['scale.webhook_token_file', 'scale.webhook_url'],
    rule: 'needs scale.webhook_url: without it there is nobody to send it to',
    holds: (file, url) => file === undefined || url !== undefined,
  },
];
