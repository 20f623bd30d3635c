/** Changes of leases that are under way, by lease: who asks about a lease may wait for its change. The latest counts. */
export class Settling {
  readonly #changes = new Map<string, Promise<void>>();

  of(leaseId: string): Promise<void> | undefined {
    return this.#changes.get(leaseId);
  }

  hold(leaseId: string, change: Promise<void>): void {
    this.#changes.set(leaseId, change);
    const forget = () => {
      if (this.#changes.get(leaseId) === change) this.#changes.delete(leaseId);
    };
    change.then(forget, forget);
  }
}
