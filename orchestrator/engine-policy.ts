import type { Config } from './config.ts';
import type { AdjustPolicy } from './core/adjust.ts';
import { MIB } from './core/profile.ts';
import { NO_ROOM, type Room } from './core/room.ts';
import type { GuestGroup, ScalePolicy } from './core/scale.ts';
import type { TenantPolicy, TenantsPolicy } from './core/tenant.ts';
import type { EnginePolicy } from './engine/policy.ts';

/** The operator's configuration in the engine's terms. */
export function enginePolicy(config: Config): EnginePolicy {
  const { anomaly, engine, host } = config;
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
      admitBy: host.overcommit.admitBy,
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
      cpuWeight: 1,
    },
    adjust: { cpu: adjust(cpu), memory: adjust(memory), disk: adjust(disk), net: adjust(net) },
    tenants: tenantsPolicy(config),
    anomaly: {
      leak: anomaly.leak,
      runaway: anomaly.runaway,
      stuck: anomaly.stuck,
      miner: anomaly.miner,
      'profile-change': anomaly.profileChange,
      drift: anomaly.drift,
    },
    scale: scalePolicy(config),
    delayLimitFraction: engine.delayLimitFraction,
    queueAgeingMs: engine.queueAgeingS * 1000,
    tickMs: engine.tickMs,
    queueMax: engine.queueMax,
    actuationTimeoutMs: engine.actuationTimeoutMs,
  };
}

/** The table that speaks for tenants without one. */
const DEFAULT_TENANT = 'default';

function tenantsPolicy({ engine, tenants }: Config): TenantsPolicy {
  const policyOf = (tenant: Partial<Config['tenants'][number]>): TenantPolicy => {
    const { cpu = engine.headroomFraction.cpu, memory = engine.headroomFraction.memory } =
      tenant.headroomFraction === undefined
        ? {}
        : { cpu: tenant.headroomFraction, memory: tenant.headroomFraction };
    const { level } = tenant;
    return {
      weight: tenant.weight ?? 1,
      quota: roomOf(tenant.quota, Number.POSITIVE_INFINITY),
      guaranteed: roomOf(tenant.guaranteed, 0),
      needs: {
        levels:
          level === undefined ? engine.quantile : { low: level, normal: level, high: level, critical: level },
        headroomFraction: { ...engine.headroomFraction, cpu, memory },
        rateLimitRunsMin: engine.rateLimitRunsMin,
        cpuWeight: tenant.weight ?? 1,
      },
      cooldownMs: tenant.cooldownMs ?? engine.cooldownMs,
      shadow: tenant.shadow ?? false,
    };
  };
  const named = tenants.filter(({ name }) => name !== DEFAULT_TENANT);
  const fallback = policyOf(tenants.find(({ name }) => name === DEFAULT_TENANT) ?? {});
  return {
    named: new Map(named.map((tenant) => [tenant.name, policyOf(tenant)])),
    fallback: { ...fallback, guaranteed: NO_ROOM },
  };
}

function roomOf(room: Partial<Config['tenants'][number]['quota']> | undefined, absent: number): Room {
  return {
    cpuMillicores: room?.cpuMillicores ?? absent,
    memoryBytes: room?.memoryMib === undefined ? absent : room.memoryMib * MIB,
  };
}

function scalePolicy({ groups, scale }: Config): ScalePolicy {
  const groupOf = ({ name, guests, spare, level, idleStopS }: Config['groups'][number]): GuestGroup => ({
    name,
    guests,
    spare,
    ...(level !== undefined && { level }),
    ...(idleStopS !== undefined && { idleStopMs: idleStopS * 1000 }),
  });
  return {
    groups: new Map(groups.map((group) => [group.name, groupOf(group)])),
    startingMax: scale.startingMax,
    bootMs: scale.bootS * 1000,
    cooldownMs: scale.cooldownS * 1000,
  };
}
