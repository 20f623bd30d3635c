import type { ShadowServiceService } from '../../proto/gen/foreshade/v1/shadow.ts';
import type { AllocationEngine } from '../core/engine.ts';
import { wireSample } from './answers.ts';
import { soleName } from './requests.ts';
import type { Handlers } from './route.ts';

/** ShadowService over the engine. */
export function shadowHandlers(engine: AllocationEngine): Handlers<typeof ShadowServiceService> {
  return {
    async *watchGuest(request, caller) {
      for await (const sample of engine.watchGuest(soleName(request.guest, 'guest'), caller)) {
        yield wireSample(sample);
      }
    },
  };
}
