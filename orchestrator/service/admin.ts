import type { AdminServiceService } from '../../proto/gen/foreshade/v1/admin.ts';
import type { AllocationEngine } from '../core/engine.ts';
import type { Mode } from '../core/guest.ts';
import type { ShadowStore } from '../core/shadow.ts';
import { wireAnomaly, wireGuest, wireStatus } from './answers.ts';
import { guestMode, guestSampling, soleName } from './requests.ts';
import type { Handlers } from './route.ts';

/**
 * AdminService over the engine.
 * @param about hostName: undefined for the hypervisor's; hostMode: of an adopted guest whose request names none
 * @param onDrain  called when a drain is asked for, before the engine's begins
 */
export function adminHandlers(
  engine: AllocationEngine,
  about: { readonly version: string; readonly hostName: string | undefined; readonly hostMode: Mode },
  shadow: Pick<ShadowStore, 'status'> | undefined,
  onDrain: () => void,
): Handlers<typeof AdminServiceService> {
  const { version, hostName, hostMode } = about;
  const status = async () => wireStatus(await engine.status(), version, hostName, shadow?.status);
  return {
    getStatus: () => status(),
    async listGuests() {
      return { guests: (await engine.listGuests()).map(wireGuest) };
    },
    async getGuest(request) {
      return wireGuest(await engine.getGuest(soleName(request.guest, 'guest')));
    },
    async adoptGuest(request) {
      const { guest, mode } = guestMode(request, hostMode);
      return wireGuest(await engine.adopt(guest, mode));
    },
    async releaseGuest(request, caller) {
      return wireGuest(await engine.disown(soleName(request.guest, 'guest'), caller));
    },
    async restoreGuest(request, caller) {
      return wireGuest(await engine.restore(soleName(request.guest, 'guest'), caller));
    },
    async setGuestMode(request) {
      const { guest, mode } = guestMode(request, undefined);
      return wireGuest(await engine.setMode(guest, mode));
    },
    async setGuestSampling(request) {
      const { guest, sampling } = guestSampling(request);
      return wireGuest(await engine.setSampling(guest, sampling));
    },
    async listAnomalies({ guest }) {
      const name = guest ? soleName(guest, 'guest') : undefined;
      return { anomalies: engine.listAnomalies(name).map(wireAnomaly) };
    },
    async drain() {
      onDrain();
      await engine.drain();
      return status();
    },
  };
}
