import type { Server } from '@grpc/grpc-js';
import { HealthImplementation, type ServingStatus } from 'grpc-health-check';
import type { AllocationEngine } from '../core/engine.ts';

/** How often the hypervisor's availability is looked at. Well under a client's patience, far above the cost of a look. */
const HEALTH_PERIOD_MS = 1000;

export const SERVICE_NAMES = {
  allocation: 'foreshade.v1.AllocationService',
  admin: 'foreshade.v1.AdminService',
  placement: 'foreshade.v1.PlacementService',
  shadow: 'foreshade.v1.ShadowService',
} as const;

/**
 * grpc.health.v1. The whole server ('') serves until it drains; AllocationService also needs a hypervisor, since it
 * can promise nothing without one.
 */
export class Health {
  readonly #implementation = new HealthImplementation();
  readonly #engine: AllocationEngine;
  readonly #timer: NodeJS.Timeout;
  #isDraining = false;
  #isAllocating = false;

  constructor(server: Server, engine: AllocationEngine) {
    this.#engine = engine;
    this.#implementation.addToServer(server as never);
    for (const name of ['', ...Object.values(SERVICE_NAMES)]) this.#set(name, true);
    this.#set(SERVICE_NAMES.allocation, false);
    this.#timer = setInterval(() => void this.look(), HEALTH_PERIOD_MS);
    this.#timer.unref();
  }

  /** True while Allocate can be answered: what /readyz says. */
  get isReady(): boolean {
    return this.#isAllocating && !this.#isDraining;
  }

  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** Ask the engine once and publish what has changed. */
  async look(): Promise<void> {
    const status = await this.#engine.status().catch(() => undefined);
    if (this.#isDraining) return;
    const isAllocating = status?.hypervisorAvailable === true && !status.draining;
    if (isAllocating === this.#isAllocating) return;
    this.#isAllocating = isAllocating;
    this.#set(SERVICE_NAMES.allocation, isAllocating);
  }

  /** NOT_SERVING everywhere, for good. */
  drain(): void {
    this.#isDraining = true;
    for (const name of ['', ...Object.values(SERVICE_NAMES)]) this.#set(name, false);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #set(name: string, isServing: boolean): void {
    const value: ServingStatus = isServing ? 'SERVING' : 'NOT_SERVING';
    this.#implementation.setStatus(name, value);
  }
}
