import type { Config } from './config.ts';
import type { AdjustPolicy } from './core/adjust.ts';
import { MIB } from './core/profile.ts';
import type { EnginePolicy } from './engine/policy.ts';

/** The operator's configuration in the engine's terms. */
export function enginePolicy(config: Config): EnginePolicy {
  const { engine, host } = config;
  const adjust = (headroomFraction: number): AdjustPolicy => ({
    headroomFraction,
    limitFraction: engine.limitFraction,
    emergencyFraction: engine.emergencyFraction,
    shrinkStepFraction: engine.shrinkStepFraction,
    deadbandFraction: engine.deadbandFraction,
    cooldownMs: engine.cooldownMs,
  });
  const { cpu, memory, disk, net } = engine.headroomFraction;
  return {
    mode: host.mode,
    capacity: {
      overcommit: { cpu: host.overcommit.cpu, memory: host.overcommit.memory },
      reserved: {
        cpuMillicores: host.reserved.cpuMillicores,
        memoryBytes: host.reserved.memoryMib * MIB,
      },
    },
    needs: {
      levels: engine.quantile,
      headroomFraction: engine.headroomFraction,
      rateLimitRunsMin: engine.rateLimitRunsMin,
    },
    adjust: { cpu: adjust(cpu), memory: adjust(memory), disk: adjust(disk), net: adjust(net) },
    tickMs: engine.tickMs,
    queueMax: engine.queueMax,
    actuationTimeoutMs: engine.actuationTimeoutMs,
  };
}
