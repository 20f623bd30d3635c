import { createWriteStream } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { ForeshadeClient } from '../../integrations/client-node/client.ts';
import { Lab } from '../../libvirt-adapter/lab/lab.ts';
import { labServiceConfig } from '../../libvirt-adapter/lab/service-config.ts';
import type { Libvirt } from '../../libvirt-adapter/libvirt.ts';
import { NativeLibvirt } from '../../libvirt-adapter/native/connection.ts';
import { Mode } from '../../proto/gen/foreshade/v1/resources.ts';
import { parseConfig } from '../config.ts';
import { ConstantForecaster } from '../forecast/constant-forecaster.ts';
import { type Running, serve } from '../main.ts';

/** Calls of the demonstration wait no longer than this; a balloon takes seconds, a hang takes for ever. */
export const CALL_TIMEOUT_MS = 30_000;

/** What a guest uses by itself is the median of this long. */
const IDLE_MS = 7_000;

/** Guests of the demonstration,one per way of allocating, so that none inherits another's sizes. */
export const GUESTS = { foreshade: 'lab-1', fixed: 'lab-2', reactive: 'lab-3' } as const;

/** Where the service of a stage writes its log. */
export function logFileIn(stateDir: string): string {
  return join(stateDir, 'service.log');
}

/** The lab, the service and a client of it, all real. */
export interface Stage {
  readonly lab: Lab;
  readonly client: ForeshadeClient;
  /** For the rivals, which talk to libvirt by themselves. */
  readonly libvirt: Libvirt;
  /** Where the service's log went. */
  readonly logFile: string;
  close(): Promise<void>;
}

/** Boot the lab, start the service on it in enforce mode, and adopt the first guest. */
export async function setStage(options: {
  readonly stateDir: string;
  /** How many to boot; the first is managed. */
  readonly guests: number;
  readonly ablate: boolean;
  readonly onProgress: (line: string) => void;
}): Promise<Stage> {
  const { stateDir, guests, ablate, onProgress } = options;
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  const undo: (() => Promise<unknown> | unknown)[] = [];
  const close = async (): Promise<void> => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    const lab = await Lab.up({
      guests,
      // What the guests executed is told by class and, to whom asks, each million; the last minutes of one vCPU are kept.
      guest: { icountArguments: 'classes=all,every=1000000,ring=16384' },
      stateDir: join(stateDir, 'lab'),
      onProgress,
    });
    undo.push(() => lab.down());
    const socket = join(stateDir, 'foreshade.sock');
    const logFile = logFileIn(stateDir);
    const running = await startService(lab, { stateDir, socket, logFile, ablate });
    undo.push(() => running.stop());
    const libvirt = await NativeLibvirt.open(lab.uri);
    undo.push(() => libvirt.close());
    const client = new ForeshadeClient(socket);
    undo.push(() => client.close());
    const adopted = { guest: GUESTS.foreshade, mode: Mode.MODE_ENFORCE };
    await client.ask(client.admin, client.admin.adoptGuest, adopted, { timeoutMs: CALL_TIMEOUT_MS });
    onProgress(
      "the first guest is adopted; a few seconds of its idle use tell its own share from a request's",
    );
    await sleep(IDLE_MS);
    return { lab, client, libvirt, logFile, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function startService(
  lab: Lab,
  place: { stateDir: string; socket: string; logFile: string; ablate: boolean },
): Promise<Running> {
  const data = join(place.stateDir, 'service');
  await rm(data, { recursive: true, force: true });
  const own = `state_dir = ${JSON.stringify(data)}\n[service]\nsocket = ${JSON.stringify(place.socket)}\n[host]\nmode = "enforce"\n`;
  const config = parseConfig(own + labServiceConfig(lab.uri), 'the demonstration');
  const logger = pino({ level: 'debug' }, createWriteStream(place.logFile));
  return serve(config, { logger, ...(place.ablate ? { forecaster: new ConstantForecaster() } : {}) });
}
