import { z } from 'zod';
import { ADMIT_BY } from '../core/admit.ts';
import { ANOMALY_ACTIONS } from '../core/anomaly.ts';
import { MODES } from '../core/guest.ts';
import { TTL_MS_DEFAULT, TTL_MS_MAX, TTL_MS_MIN } from '../core/request.ts';
import { SAMPLING_BOUNDS } from '../core/sample.ts';

/** What a key means and which rule its value keeps: the text of `docs/configuration.md` and of error messages. */
export interface KeyText {
  readonly description: string;
  readonly rule: string;
}

/** Levels of the log, least severe first, as pino names them. */
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;

/** Longest path of a unix socket: sun_path is 108 bytes on Linux, its end included. */
const SOCKET_PATH_CHARS_MAX = 107;
/** What the path of HTTP's socket has more than that of gRPC's, where it is derived from it. */
const HTTP_SOCKET_CHARS = '.http.sock'.length;
/** Longest path of a file: PATH_MAX on Linux. */
const PATH_CHARS_MAX = 4096;
/** Most CPU a host may promise over what it has: OpenStack's historical default, beyond which guests only wait. */
const CPU_OVERCOMMIT_MAX = 16;
/** Most memory a host may promise over what it has. Beyond it a host lives in swap. */
const MEMORY_OVERCOMMIT_MAX = 4;
/** Least and most of a quantile: the median is no promise at all, and forecasts end at 0.99. */
const QUANTILE_MIN = 0.5;
const QUANTILE_MAX = 0.99;
/** Addresses that never leave the host. */
const LOOPBACK = /^(?:127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\]):([1-9]\d{0,4})$/;
const PORT_MAX = 65_535;
/** A host and a port, and nothing that could hold a secret. */
const HTTPS_URL = /^https:\/\/(?:[A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:]{2,39}\])(?::\d{1,5})?\/?$/;
const NODE_NAME = /^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;
const FINGERPRINT = /^(?:[0-9a-fA-F]{64}|[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){31})$/;
/** One to three names with slashes between. */
const INPUT_NAME = /^(?:[^/]{1,256}\/){0,2}[^/]{1,256}$/;
/** Name of a model: that of a folder, no path, nothing hidden. */
const MODEL_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** Rules of inputs: each is tried for each parameter of each request. */
const INPUT_NAMES_MAX = 64;

const count = (value: number): string => value.toLocaleString('en-US');

function whole(min: number, max: number, unit = '') {
  const rule = `a whole number from ${count(min)} to ${count(max)}${unit && ` ${unit}`}`;
  return { type: z.number({ error: rule }).int().min(min).max(max), rule };
}

const wholeOf = ({ min, max }: { readonly min: number; readonly max: number }) => whole(min, max);

function decimal(min: number, max: number) {
  const rule = `a number from ${min} to ${max}`;
  return { type: z.number({ error: rule }).min(min).max(max), rule };
}

function flag() {
  const rule = 'true or false';
  return { type: z.boolean({ error: rule }), rule };
}

function path(charsMax: number) {
  const rule = `an absolute path of at most ${count(charsMax)} characters`;
  return { type: z.string({ error: rule }).startsWith('/').max(charsMax), rule };
}

function name(charsMax: number) {
  const rule = `a text of 1 to ${charsMax} characters`;
  return { type: z.string({ error: rule }).min(1).max(charsMax), rule };
}

function modelName() {
  const rule =
    'a name of letters, digits, dots, underscores and dashes, at most 64, that begins with a letter or a digit';
  return { type: z.string({ error: rule }).regex(MODEL_NAME, { error: rule }), rule };
}

function timeOfDay() {
  const rule = 'a time of the day such as "03:30", by the host\'s clock';
  return { type: z.string({ error: rule }).regex(/^([01]\d|2[0-3]):[0-5]\d$/, { error: rule }), rule };
}

function oneOf<const T extends readonly [string, ...string[]]>(values: T) {
  const rule = `one of ${values.map((value) => `"${value}"`).join(', ')}`;
  return { type: z.enum(values, { error: rule }), rule };
}

function inputNames() {
  const rule =
    'a list of names of parameters, such as ["user", "encode/file_*", "acme/encode/title"]: NAME, WORKLOAD/NAME or TENANT/WORKLOAD/NAME, where * in NAME stands for any characters';
  const text = z.string({ error: rule }).regex(INPUT_NAME, { error: rule });
  return { type: z.array(text, { error: rule }).max(INPUT_NAMES_MAX, { error: rule }), rule };
}

function nodeName() {
  const rule = 'the name of a node: letters, digits and dashes, at most 63';
  return { type: z.string({ error: rule }).regex(NODE_NAME, { error: rule }), rule };
}

function fingerprint() {
  const rule = 'a SHA-256 fingerprint: 64 hex digits, with colons between pairs or without';
  return { type: z.string({ error: rule }).regex(FINGERPRINT, { error: rule }), rule };
}

function httpsUrl() {
  const rule = 'an https URL of a host and a port, such as "https://pve1:8006"';
  return { type: z.string({ error: rule }).regex(HTTPS_URL, { error: rule }), rule };
}

function loopback() {
  const rule =
    'a loopback address and a port, such as "127.0.0.1:7443" or "[::1]:7443": until callers are authorised, other addresses are refused';
  const type = z
    .string({ error: rule })
    .refine((value) => Number(LOOPBACK.exec(value)?.[1] ?? Number.NaN) <= PORT_MAX);
  return { type, rule };
}

/** A service on this host, or the near end of a tunnel. */
function nearby() {
  const socket = path(SOCKET_PATH_CHARS_MAX);
  const tcp = loopback();
  const rule = `${socket.rule}, or ${tcp.rule}`;
  const isNear = (value: string): boolean =>
    socket.type.safeParse(value).success || tcp.type.safeParse(value).success;
  return { type: z.string({ error: rule }).refine(isNear, { error: rule }), rule };
}

/** A key with a default, written beside it. */
function key<T extends z.ZodType>(
  { type, rule }: { type: T; rule: string },
  fallback: z.output<T>,
  description: string,
) {
  const text: KeyText = { description, rule };
  return type.default(fallback as never).meta({ ...text });
}

/** A key that may be absent; its description says what absence means. */
function optional<T extends z.ZodType>({ type, rule }: { type: T; rule: string }, description: string) {
  const text: KeyText = { description, rule };
  return type.optional().meta({ ...text });
}

/** A key that must be there. */
function required<T extends z.ZodType>({ type, rule }: { type: T; rule: string }, description: string) {
  const text: KeyText = { description, rule };
  return type.meta({ ...text });
}

function section<S extends z.ZodRawShape>(shape: S, description: string) {
  return z
    .strictObject(shape)
    .prefault({} as never)
    .meta({ description });
}

/** Name of a tenant or a group in the configuration. */
const TABLE_NAME = /^[^.\s][^.]{0,255}$/;
/** Tenants of one host, and groups: each admission adds up the guaranteed parts of the former, each tick looks at the latter. */
const TABLES_MAX = 256;
/** A key under which the schema stands for every name of a table. */
export const ANY_NAME = 'NAME';

/** Tables of one form under names of the operator's; read as a list whose items carry their `name`. */
function named<T extends z.ZodObject>(table: T) {
  const rule = `at most ${TABLES_MAX} tables, each under a name of 1 to 256 characters without dots`;
  const name = z.string().regex(TABLE_NAME, { error: rule });
  return z
    .record(name, table, { error: rule })
    .refine((tables) => Object.keys(tables).length <= TABLES_MAX, { error: rule })
    .prefault({} as never)
    .transform((tables) =>
      Object.entries(tables).map(([of, one]) => ({ name: of, ...(one as z.output<T>) })),
    );
}

/** Name or UUID of a guest, as libvirt takes them. */
const GUEST_NAME_CHARS_MAX = 256;
/** Guests of one group: each request for it looks at them all. */
const GROUP_GUESTS_MAX = 256;

function guestNames() {
  const rule = `a list of 1 to ${GROUP_GUESTS_MAX} names or UUIDs of guests, none twice`;
  const type = z
    .array(z.string({ error: rule }).min(1).max(GUEST_NAME_CHARS_MAX), { error: rule })
    .min(1, { error: rule })
    .max(GROUP_GUESTS_MAX, { error: rule })
    .refine((names) => new Set(names).size === names.length, { error: rule });
  return { type, rule };
}

function httpUrl() {
  const rule = 'an http or https URL without user and password';
  const type = z.string({ error: rule }).refine(isHttpUrl, { error: rule });
  return { type, rule };
}

function isHttpUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, username, password } = new URL(text);
  return ['http:', 'https:'].includes(protocol) && username === '' && password === '';
}

function inOneGroup(groups: readonly { readonly guests: readonly string[] }[]): boolean {
  const all = groups.flatMap(({ guests }) => guests);
  return new Set(all).size === all.length;
}

/** A part of the host, above guests' baselines. */
function roomSection(description: string, texts: { cpu: string; memory: string }) {
  return section(
    {
      cpu_millicores: optional(whole(0, 1_000_000), texts.cpu),
      memory_mib: optional(whole(0, 16_777_216), texts.memory),
    },
    description,
  );
}

interface RoomTable {
  readonly cpu_millicores?: number | undefined;
  readonly memory_mib?: number | undefined;
}

function guaranteeFits(quota: RoomTable, guaranteed: RoomTable): boolean {
  const fits = (part = 0, cap = Number.POSITIVE_INFINITY): boolean => part <= cap;
  return (
    fits(guaranteed.cpu_millicores, quota.cpu_millicores) && fits(guaranteed.memory_mib, quota.memory_mib)
  );
}

/** The whole configuration as it is written: TOML, snake_case, units in the names. */
export const CONFIG_SCHEMA = z.strictObject({
  state_dir: key(
    path(PATH_CHARS_MAX),
    '/var/lib/foreshade',
    'Where leases and the record of samples are kept. Created with mode 0750.',
  ),
  host: section(
    {
      name: optional(name(256), "Name of this host in answers. Absent: the hypervisor's."),
      mode: key(
        oneOf(MODES),
        'shadow',
        'What Foreshade may do: record and forecast (shadow), answer with a recommendation (advise), or act (enforce).',
      ),
      overcommit: section(
        {
          cpu: key(
            decimal(1, CPU_OVERCOMMIT_MAX),
            1,
            'CPU that may be promised over what remains after the reserve.',
          ),
          memory: key(
            decimal(1, MEMORY_OVERCOMMIT_MAX),
            1,
            'Memory that may be promised over what remains after the reserve.',
          ),
          admit_by: key(
            oneOf(ADMIT_BY),
            'joint-tail',
            'What binds leases where more is promised than there is: that the upper tail of what all guests use together fits total - reserved (joint-tail), or the promises alone (promises). At a ratio of 1 both are the same.',
          ),
        },
        'Overcommit ratios: capacity = (total - reserved) x ratio. Beyond 1, `admit_by` says what else binds.',
      ),
      reserved: section(
        {
          cpu_millicores: key(whole(0, 1_000_000), 500, 'CPU kept for the host itself.'),
          memory_mib: key(whole(0, 1_048_576), 1024, 'Memory kept for the host itself.'),
        },
        'What is never promised to guests.',
      ),
    },
    'The machine that runs the guests.',
  ),
  libvirt: section(
    {
      uri: key(name(1024), 'qemu:///system', 'Connection URI of the libvirt daemon.'),
      keepalive_interval_s: key(whole(1, 3600), 2, 'Seconds between probes of the daemon.'),
      keepalive_count: key(
        whole(1, 1000),
        3,
        'Probes that may stay unanswered; a dead daemon is noticed after about (count + 1) intervals.',
      ),
      open_timeout_ms: key(whole(100, 600_000), 10_000, 'Longest wait for the first connection.'),
      stats_timeout_ms: key(whole(100, 600_000), 10_000, 'Longest wait for one call that reads statistics.'),
      control_timeout_ms: key(whole(100, 600_000), 15_000, 'Longest wait for one call that changes a guest.'),
      slow_timeout_ms: key(
        whole(100, 3_600_000),
        60_000,
        'Longest wait for one call that waits for a guest, such as its agent.',
      ),
      shape_taps: key(
        flag(),
        true,
        'Limit the taps of guests by tc ourselves where the kernel lacks what libvirt needs for it.',
      ),
    },
    'How the hypervisor is reached.',
  ),
  proxmox: section(
    {
      url: optional(
        httpsUrl(),
        'Where the REST API of Proxmox VE answers. Given, guests are driven through it and not through libvirt.',
      ),
      node: optional(nodeName(), 'The node whose guests are driven.'),
      token_file: optional(
        path(PATH_CHARS_MAX),
        'File with an API token, USER@REALM!TOKENID=SECRET, for root or the service alone to read. Read again when the token is refused.',
      ),
      fingerprint: optional(
        fingerprint(),
        "SHA-256 fingerprint of the server's certificate: that one, and no other, whoever signed it.",
      ),
      ca_file: optional(
        path(PATH_CHARS_MAX),
        "Certificates of the authorities that may have signed the server's, PEM. Absent: the system's.",
      ),
      timeout_ms: key(
        whole(100, 600_000),
        10_000,
        'Longest wait for one call; one that changes a guest may take 20 s.',
      ),
      vcpu_unplug: key(
        flag(),
        false,
        'The guests here survive a vCPU unplug. Otherwise plugged vCPUs stay, and `cpulimit` holds the guest.',
      ),
      plug_memory_to_mib: key(
        whole(0, 4_194_304),
        0,
        'Guests with memory hotplug may be grown to this by DIMMs. 0: they are given no more than their `memory`.',
      ),
    },
    'Guests of a Proxmox VE node, instead of libvirt: see docs/proxmox.md.',
  ),
  service: section(
    {
      socket: key(
        path(SOCKET_PATH_CHARS_MAX - HTTP_SOCKET_CHARS),
        '/run/foreshade/foreshade.sock',
        'Unix socket of the gRPC service, mode 0660.',
      ),
      tcp: optional(loopback(), 'Also listen here, in the clear. Absent: the unix socket only.'),
      http_socket: optional(
        path(SOCKET_PATH_CHARS_MAX),
        'Unix socket of HTTP, mode 0660: the same calls as JSON, /metrics, /healthz and /readyz. Absent: beside `socket`, its `.sock` made `.http.sock`.',
      ),
      http_port: optional(
        whole(1, PORT_MAX),
        'Port on 127.0.0.1 of /metrics, /healthz and /readyz. Absent: not served there.',
      ),
      http_port_api: key(
        flag(),
        false,
        'Serve the calls as JSON on `http_port` too, in the clear: whoever can run a program on this host may then make them.',
      ),
      drain_timeout_ms: key(whole(0, 600_000), 10_000, 'Longest wait for calls in flight when stopping.'),
    },
    'Where clients reach Foreshade.',
  ),
  placement: section(
    {
      report_to: optional(
        nearby(),
        'gRPC address of another service that ranks hosts for the whole cloud: this host is reported there too, by a tunnel where that service is elsewhere. Absent: to this service alone.',
      ),
    },
    'Where this host is known as a candidate for new guests.',
  ),
  engine: section(
    {
      tick_ms: key(whole(100, 60_000), 1000, 'Period of observing and adjusting.'),
      quantile: section(
        {
          low: key(
            decimal(QUANTILE_MIN, QUANTILE_MAX),
            0.8,
            'Quantile of the forecast that a low request is given.',
          ),
          normal: key(decimal(QUANTILE_MIN, QUANTILE_MAX), 0.9, 'The same for a normal request.'),
          high: key(decimal(QUANTILE_MIN, QUANTILE_MAX), 0.95, 'The same for a high request.'),
          critical: key(decimal(QUANTILE_MIN, QUANTILE_MAX), 0.99, 'The same for a critical request.'),
        },
        'How sure an allocation is, by priority: the share of runs that fit in it.',
      ),
      headroom_fraction: section(
        {
          cpu: key(decimal(0, 2), 0.1, 'CPU kept above demand, as a fraction of it.'),
          memory: key(decimal(0, 2), 0.1, 'Memory kept above demand.'),
          disk: key(decimal(0, 10), 0.2, 'Disk rates kept above demand.'),
          net: key(decimal(0, 10), 0.2, 'Network rates kept above demand.'),
        },
        'What is kept above demand on purpose.',
      ),
      deadband_fraction: key(
        decimal(0, 0.5),
        0.05,
        'Changes smaller than this fraction of what is held are not made.',
      ),
      shrink_step_fraction: key(
        decimal(0.01, 1),
        0.2,
        'Largest fraction taken back in one tick. Growth is not limited.',
      ),
      limit_fraction: key(
        decimal(0.5, 0.99),
        0.95,
        'Usage at or above this fraction of what is held counts as demand cut off: grow at once.',
      ),
      emergency_fraction: key(
        decimal(0.05, 4),
        0.5,
        'How far beyond usage such a growth goes: what was cut off is not known.',
      ),
      rate_limit_runs_min: key(
        whole(1, 1000),
        8,
        'Runs a forecast must rest on before a disk or network limit is set where there was none.',
      ),
      cooldown_ms: key(
        whole(0, 3_600_000),
        3000,
        'Quiet time after a change before a guest is shrunk again.',
      ),
      queue_max: key(whole(0, 100_000), 256, 'Requests that may wait for room; more are refused.'),
      queue_ageing_s: key(
        whole(1, 604_800),
        300,
        'Waiting time after which a request counts as one priority higher, and again: nobody starves.',
      ),
      delay_limit_fraction: key(
        decimal(0.01, 1),
        0.1,
        'vCPU delay of a guest within its promise beyond which a neighbour that bursts is brought back, as a fraction of time.',
      ),
      actuation_timeout_ms: key(
        whole(500, 600_000),
        15_000,
        'Longest an actuator may take before what it has reached is taken as the result.',
      ),
      lease_ttl_ms: key(
        whole(TTL_MS_MIN, TTL_MS_MAX),
        TTL_MS_DEFAULT,
        'Time to live of a lease whose request names none.',
      ),
    },
    'How much is given, and how it moves.',
  ),
  anomaly: section(
    {
      leak: key(
        oneOf(ANOMALY_ACTIONS),
        'alert',
        'Memory that keeps growing beyond the forecast of its lease.',
      ),
      runaway: key(
        oneOf(ANOMALY_ACTIONS),
        'alert',
        'CPU that stands at its entitlement beyond the forecast, after the work should have ended.',
      ),
      stuck: key(
        oneOf(ANOMALY_ACTIONS),
        'alert',
        'A lease whose work should run, on a guest that uses next to nothing.',
      ),
      miner: key(
        oneOf(ANOMALY_ACTIONS),
        'alert',
        'Steady, nearly full CPU with next to no disk and network that no lease explains.',
      ),
      profile_change: key(
        oneOf(ANOMALY_ACTIONS),
        'alert',
        'A workload that keeps missing its forecast under the same parameters.',
      ),
      drift: key(
        oneOf(['alert', 'ignore']),
        'alert',
        'A workload that misses its forecast too often, over all guests and parameters. It is no fault of one guest, and none is touched for it.',
      ),
    },
    'What is done about a guest that does what it should not: record and log it (alert); also hold it to what its leases were promised while it lasts (cap); also end its leases, put its baseline back and leave it in shadow until its mode is set anew (quarantine); or nothing (ignore).',
  ),
  tenants: named(
    z
      .strictObject({
        weight: key(
          decimal(0.01, 100),
          1,
          'Its say where tenants compete, for room and for busy CPUs: at 2 it is due twice what one at 1 is.',
        ),
        shadow: key(flag(), false, 'Its requests are forecast and recorded, and nothing is moved for them.'),
        level: optional(
          decimal(QUANTILE_MIN, QUANTILE_MAX),
          'Quantile of the forecast that its requests are given at least and at most, whatever their priority. Absent: by priority, `engine.quantile`.',
        ),
        headroom_fraction: optional(
          decimal(0, 2),
          'CPU and memory kept above demand, as a fraction of it. Absent: `engine.headroom_fraction`.',
        ),
        cooldown_ms: optional(
          whole(0, 3_600_000),
          'Quiet time after a change before room is reclaimed from its leases. Absent: `engine.cooldown_ms`.',
        ),
        quota: roomSection("The most its leases may be promised together, above guests' baselines.", {
          cpu: 'Absent: no cap.',
          memory: 'Absent: no cap.',
        }),
        guaranteed: roomSection(
          'What is always kept available to it; what it holds above is its burst part.',
          {
            cpu: 'At most the quota. Absent: nothing.',
            memory: 'At most the quota. Absent: nothing.',
          },
        ),
      })
      .refine(({ quota, guaranteed }) => guaranteeFits(quota, guaranteed), {
        error: 'the guaranteed part must not exceed the quota',
      })
      .meta({
        description:
          'One tenant. One without a table is as `default`, a tenant of its own; the default has no guaranteed part.',
      }),
  ),
  groups: named(
    z
      .strictObject({
        guests: required(
          guestNames(),
          'Guests that do the same work at the same sizes, in the order in which they are given it. Only these are ever started, and only once adopted, in enforce.',
        ),
        spare: key(whole(0, GROUP_GUESTS_MAX), 0, 'Guests kept running beside those at work.'),
        level: optional(
          decimal(QUANTILE_MIN, QUANTILE_MAX),
          'Quantile of the foreseen demand for which guests are kept running. Absent: nothing is foreseen.',
        ),
        idle_stop_s: optional(
          whole(1, 604_800),
          'Time without a lease after which a guest that Foreshade started is asked to shut down. Absent: never.',
        ),
      })
      .meta({
        description:
          'One group of guests: a request that names it in place of a guest is served by one of them that has room, and a guest that stands by is started when none has.',
      }),
  ).refine(inOneGroup, { error: 'no guest may be in two groups' }),
  scale: section(
    {
      starting_max: key(whole(1, 64), 2, 'Guests of groups that may be on their way up at once.'),
      boot_s: key(whole(1, 3_600), 60, "From a guest's start until it can work."),
      cooldown_s: key(
        whole(1, 86_400),
        300,
        'Least time between two starts of a guest, from any change of a group to a stop in it, and between two calls for the same.',
      ),
      webhook_url: optional(
        httpUrl(),
        'Who is asked for room that this host does not have: a POST of JSON. Absent: nobody.',
      ),
      webhook_token_file: optional(
        path(PATH_CHARS_MAX),
        'File with the bearer token of that call. Absent: none is sent.',
      ),
    },
    'What is done for requests that running guests cannot take.',
  ),
  hook: section(
    {
      adopt: key(
        flag(),
        true,
        'Manage, in the mode of the host, a guest whose definition asks for room when it starts. Otherwise it must have been adopted.',
      ),
    },
    "What the libvirt hook's reports may do.",
  ),
  telemetry: section(
    {
      full_period_ms: key(
        wholeOf(SAMPLING_BOUNDS.fullMs),
        1000,
        'Period of complete samples of every adopted guest.',
      ),
      fast_period_ms: key(
        wholeOf(SAMPLING_BOUNDS.fastMs),
        100,
        "Period of the host's own readings while a guest holds a lease.",
      ),
      idle_period_ms: key(
        wholeOf(SAMPLING_BOUNDS.fullMs),
        5000,
        'Period of complete samples of a guest without a lease that has done nothing for a minute.',
      ),
      instruction_step: key(
        wholeOf(SAMPLING_BOUNDS.instructionStep),
        0,
        'Also a sample each so many executed instructions, where the guest has an instruction counter that cuts. 0: none.',
      ),
      perf_events: key(
        flag(),
        false,
        "Switch hardware counters on for adopted guests. They miss vCPUs that run already: better list them, and task_clock, in the guest's definition, where they are read without this key.",
      ),
      cpu_budget_fraction: key(
        decimal(0.001, 1),
        0.1,
        'Share of one core that sampling may take; beyond it guests without a lease are sampled less often, then all.',
      ),
    },
    'How guests are observed.',
  ),
  shadow: section(
    {
      raw_days: key(
        whole(1, 3_660),
        30,
        'Days for which every sample is kept. Minutes and hours are made of them before they go.',
      ),
      minute_days: key(
        whole(1, 3_660),
        365,
        'Days for which means, extremes and p95 by the minute are kept.',
      ),
      hour_days: optional(whole(1, 36_600), 'Days for which the same by the hour is kept. Absent: for ever.'),
      size_max_mib: key(
        whole(64, 1_073_741_824),
        20_480,
        'Sealed samples take at most so much; the oldest of the finest kind go first.',
      ),
      free_min_mib: key(
        whole(0, 1_073_741_824),
        256,
        'Samples leave so much of the disk free: leases are kept on it too, and must go on.',
      ),
      upkeep_period_s: key(
        whole(10, 86_400),
        900,
        'How often the log is sealed into Parquet, small files are merged and what is too old is dropped.',
      ),
      query_memory_mib: key(
        whole(64, 1_048_576),
        512,
        'Memory of each of the two processes that answer questions and seal the log.',
      ),
      query_threads: key(whole(1, 256), 1, 'CPU threads of each of the two.'),
      hash_inputs: key(
        inputNames(),
        [],
        'Parameters of requests of which only a keyed hash is kept: found again by who knows the value.',
      ),
      redact_inputs: key(inputNames(), [], 'Parameters of which only is kept that they were there.'),
    },
    'The record of what guests used, in `shadow` below `state_dir`.',
  ),
  model: section(
    {
      name: key(
        modelName(),
        'default',
        "Model of the guests' own courses; of its versions the one that was promoted, else the newest. A promotion is in force within seconds.",
      ),
      folder: optional(
        path(PATH_CHARS_MAX),
        'Where models are kept; those that ship are looked at after it. Absent: `models` below `state_dir`.',
      ),
      retrain_at: optional(
        timeOfDay(),
        'When each day a version is trained on the record, at the lowest priority; it serves if it is better on the last day than what serves. Absent: never.',
      ),
    },
    'What forecasts guests without a request.',
  ),
  log: section(
    { level: key(oneOf(LOG_LEVELS), 'info', 'Least severe level that is written.') },
    'What is written to standard error, one JSON record a line.',
  ),
});
