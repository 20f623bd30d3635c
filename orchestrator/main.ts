import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type AdapterOptions, createLibvirtAdapter } from '../libvirt-adapter/adapter.ts';
import { systemClock } from '../libvirt-adapter/clock.ts';
import { readDefinition } from '../libvirt-adapter/definition.ts';
import type { HostReadings } from '../libvirt-adapter/host-readings.ts';
import type { Libvirt } from '../libvirt-adapter/libvirt.ts';
import { type ConfigChanges, changesOf } from './config/reload.ts';
import type { Config } from './config.ts';
import { HostTable } from './core/host-table.ts';
import type { Forecaster, HypervisorPorts, LeaseLedger } from './core/ports.ts';
import type { ShadowStore } from './core/shadow.ts';
import { Engine } from './engine/engine.ts';
import type { Log } from './engine/log.ts';
import { enginePolicy } from './engine-policy.ts';
import { FleetService } from './fleet-service.ts';
import { ledgerFolder } from './ledger/lmdb-file.ts';
import { LmdbLedger } from './ledger/lmdb-ledger.ts';
import { upgradeLedger } from './ledger/schema-versions.ts';
import { packageVersion } from './package-path.ts';
import { openProxmoxNode, type ProxmoxNode, proxmoxDefinition, proxmoxPorts } from './proxmox-node.ts';
import { Retraining } from './retraining.ts';
import { Webhook } from './scale/webhook.ts';
import { Service } from './service/server.ts';
import { StateLock } from './state-lock.ts';
import { storeOptions } from './store-options.ts';

/** A running service. */
export interface Running {
  readonly engine: Engine;
  /**
   * Take up what of another configuration a running service can.
   * @returns keys that were taken up, and all that wait for the next start
   */
  reload(config: Config): ConfigChanges;
  /** Drain and close; guests keep what they have. */
  stop(): Promise<void>;
}

/** Guests of this host's libvirt, or of one that is played. */
export interface LibvirtGround {
  readonly libvirt: Libvirt;
  readonly readings: HostReadings;
  readonly adapter?: AdapterOptions;
}

/** What a service stands on; tests and the demonstration put other things underneath. */
export type Foundation = (LibvirtGround | ProxmoxNode) & {
  readonly forecaster: Forecaster;
  readonly ledger: LeaseLedger;
  /** Absent: nothing is recorded, and questions about the record are refused. */
  readonly shadow?: ShadowStore;
};

/** Run the service over the host's libvirt, or the configured node of Proxmox VE, until `stop`. */
export async function serve(
  config: Config,
  options: { readonly logger: Log; readonly forecaster?: Forecaster },
): Promise<Running> {
  const { logger } = options;
  const lock = StateLock.take(config.stateDir);
  const undo: (() => Promise<void> | void)[] = [() => lock.release()];
  try {
    const foundation = await hostFoundation(config, options, undo);
    const running = await serveOn(config, foundation, logger);
    const retraining = new Retraining({ config, log: logger });
    undo.push(() => retraining.stop());
    retraining.start();
    return {
      engine: running.engine,
      reload: running.reload,
      async stop() {
        await running.stop();
        await unwind(undo);
      },
    };
  } catch (error) {
    await unwind(undo);
    throw error;
  }
}

/** Run the service over a foundation; the caller closes what it brought, after the service has stopped. */
export async function serveOn(config: Config, foundation: Foundation, logger: Log): Promise<Running> {
  const { forecaster, ledger, shadow } = foundation;
  const adapter =
    'api' in foundation ? proxmoxPorts(config, foundation, logger) : libvirtPorts(config, foundation, logger);
  const hosts = new HostTable(systemClock);
  const { reportTo } = config.placement;
  const fleet = reportTo === undefined ? undefined : new FleetService(reportTo);
  const engine = new Engine(
    {
      clock: systemClock,
      forecaster,
      ledger,
      hypervisor: adapter.hypervisor,
      actuators: adapter.actuators,
      window: adapter.window,
      telemetry: adapter.telemetry,
      reportTo: [hosts, ...(fleet === undefined ? [] : [fleet])],
      ...(shadow && { shadow }),
      ...(config.scale.webhookUrl !== undefined && { scaleOut: webhook(config.scale.webhookUrl, config) }),
      ...(config.host.name !== undefined && { hostName: config.host.name }),
      log: logger,
      newId: newLeaseId,
      pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    },
    enginePolicy(config),
  );
  const undo: (() => Promise<void> | void)[] = [() => fleet?.close(), () => adapter.close()];
  try {
    await engine.start();
    const tick = setInterval(() => engine.tick(), config.engine.tickMs);
    undo.push(
      () => engine.stop(),
      () => clearInterval(tick),
    );
    const service = await Service.start({
      engine,
      hosts,
      config,
      version: packageVersion(),
      logger,
      hook: {
        starts: engine.starts,
        readDefinition: 'api' in foundation ? proxmoxDefinition(config.proxmox) : readDefinition,
        adopt: config.hook.adopt,
      },
      ...(shadow && { shadow }),
    });
    undo.push(() => service.drain(config.service.drainTimeoutMs));
  } catch (error) {
    await unwind(undo);
    throw error;
  }
  let current = config;
  const reload = (next: Config): ConfigChanges => {
    const changes = { live: changesOf(current, next).live, atRestart: changesOf(config, next).atRestart };
    engine.adoptPolicy({ ...enginePolicy(next), tickMs: config.engine.tickMs });
    current = next;
    return changes;
  };
  return { engine, reload, stop: () => unwind(undo) };
}

function webhook(url: string, { scale }: Config): Webhook {
  const { webhookTokenFile: tokenFile } = scale;
  return new Webhook({ url, ...(tokenFile !== undefined && { tokenFile }) });
}

function libvirtPorts(config: Config, ground: LibvirtGround, logger: Log): HypervisorPorts {
  return createLibvirtAdapter(ground.libvirt, ground.readings, {
    sampling: {
      sampling: {
        fullMs: config.telemetry.fullPeriodMs,
        fastMs: config.telemetry.fastPeriodMs,
        instructionStep: config.telemetry.instructionStep,
      },
      idleMs: config.telemetry.idlePeriodMs,
      cpuBudgetFraction: config.telemetry.cpuBudgetFraction,
    },
    switchPerfEvents: config.telemetry.perfEvents,
    onPerfUnsupported: (reason) => logger.warn({ reason }, 'the host does not count these events of guests'),
    onFailure: (cause) => logger.warn({ err: cause }, 'a reading failed'),
    ...ground.adapter,
  });
}

async function hostFoundation(
  config: Config,
  { logger, forecaster: given }: { readonly logger: Log; readonly forecaster?: Forecaster },
  undo: (() => Promise<void> | void)[],
): Promise<Foundation> {
  const forecaster = given ?? (await liveForecaster(config, logger, undo));
  const ledger = LmdbLedger.open(ledgerFolder(config.stateDir));
  undo.push(() => ledger.close());
  await upgradeLedger(ledger);
  const shadow = await openShadow(config, logger);
  undo.push(() => shadow.close());
  const ground =
    config.proxmox.url === undefined
      ? await libvirtGround(config, logger, undo)
      : await openProxmoxNode(config.proxmox, config.proxmox.url, logger, undo);
  return { ...ground, forecaster, ledger, shadow };
}

async function libvirtGround(
  config: Config,
  logger: Log,
  undo: (() => Promise<void> | void)[],
): Promise<LibvirtGround> {
  // Loaded here, so that a command that never serves needs neither libvirt nor the kernels.
  const { NativeLibvirt } = await import('../libvirt-adapter/native/connection.ts');
  const { ProcessReadings } = await import('../libvirt-adapter/process-readings.ts');
  const { openIcountCounter } = await import('../libvirt-adapter/icount-counter.ts');
  const { canShapeTaps, canUseTc } = await import('../libvirt-adapter/tap-shaping.ts');
  const { TcShaper } = await import('../libvirt-adapter/tc-shaper.ts');
  const { CPU_SHARES_DEFAULT } = await import('../libvirt-adapter/limits.ts');
  const { libvirt: settings } = config;
  const libvirt = await NativeLibvirt.open(settings.uri, {
    keepalive: { intervalS: settings.keepaliveIntervalS, count: settings.keepaliveCount },
    openTimeoutMs: settings.openTimeoutMs,
    timeoutsMs: {
      stats: settings.statsTimeoutMs,
      control: settings.controlTimeoutMs,
      slow: settings.slowTimeoutMs,
    },
  });
  undo.push(() => libvirt.close());
  logger.info({ uri: settings.uri, versions: await libvirt.versions() }, 'connected to libvirt');
  const readings = new ProcessReadings();
  const tapShaping = canShapeTaps();
  const byUs = !tapShaping && settings.shapeTaps && (await canUseTc());
  return {
    libvirt,
    readings,
    adapter: {
      openCounter: openIcountCounter,
      tapShaping,
      ...(byUs && { tapShaper: new TcShaper((guest) => readings.pid(guest)) }),
      sharesDefault:
        CPU_SHARES_DEFAULT[existsSync('/sys/fs/cgroup/cgroup.controllers') ? 'unified' : 'legacy'],
    },
  };
}

/**
 * Requests by what their workloads taught, guests by their own courses.
 * @throws {AllocatorError} INVALID_REQUEST when the model is not there, or not what its manifest says
 */
export async function liveForecaster(
  config: Config,
  logger: Log,
  undo: (() => Promise<void> | void)[],
): Promise<Forecaster> {
  const { CourseForecaster } = await import('./forecast/course-forecaster.ts');
  const { GuestCourses } = await import('./forecast/guest-courses.ts');
  const { ParametricForecaster } = await import('./forecast/parametric-forecaster.ts');
  const { EffectKernels } = await import('./wasm/effect.ts');
  const { SeriesKernels } = await import('./wasm/series.ts');
  const { ServedModel } = await import('./served-model.ts');
  const kernels = await SeriesKernels.load();
  const model = new ServedModel(config, kernels);
  const { weights, label } = await model.read();
  kernels.adopt(weights);
  logger.info({ model: label }, 'model read');
  // Each guest's work by itself, so that a call never waits for all of them.
  const courses = new GuestCourses(kernels, (work) => setImmediate(work));
  const { CourseKeeper } = await import('./forecast/course-keeper.ts');
  const keeper = await CourseKeeper.start(join(config.stateDir, 'courses'), courses, {
    onDamaged: (path, cause) => logger.warn({ path, err: cause }, 'a course cannot be read and begins cold'),
    onUnwritten: (path, cause) => logger.warn({ path, err: cause }, 'a course was not kept'),
  });
  undo.push(
    () => keeper.stop(),
    model.follow({
      onModel(next, label) {
        courses.adopt(next);
        logger.info({ model: label }, 'another version of the model serves');
      },
      onRefused: (cause) => logger.warn({ err: cause }, 'the model stays as it is'),
    }),
  );
  return new CourseForecaster(await ParametricForecaster.create(), courses, await EffectKernels.load());
}

/** The record of samples, as the configuration keeps it. @throws {ShadowError} as `DiskShadowStore.open` */
async function openShadow(config: Config, logger: Log): Promise<ShadowStore> {
  const { DiskShadowStore } = await import('./store/store.ts');
  const store = DiskShadowStore.open({
    ...storeOptions(config),
    onState: (status) => {
      const level = status.state === 'writing' || status.state === 'closed' ? 'info' : 'warn';
      logger[level]({ ...status }, `the record of samples is ${status.state}`);
    },
    onMaintenanceError: (error) => logger.warn({ err: error }, 'the upkeep of the record failed'),
  });
  for (const damage of store.damageAtOpen) logger.warn({ ...damage }, 'the record could not be read whole');
  return store;
}

/** Newest first, each even if an earlier one failed; the first failure is what the caller hears. */
async function unwind(undo: (() => Promise<void> | void)[]): Promise<void> {
  const failures: unknown[] = [];
  for (const step of undo.splice(0).reverse()) {
    try {
      await step();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}

let lastIdMs = 0;

/** Lease ids sort by time: milliseconds in base 36, never the same twice in this process, then 48 random bits. */
function newLeaseId(): string {
  lastIdMs = Math.max(Date.now(), lastIdMs + 1);
  return `${lastIdMs.toString(36).padStart(9, '0')}-${randomUUID().slice(-12)}`;
}
