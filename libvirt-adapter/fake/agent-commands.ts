import type { TimerClock } from '../../orchestrator/core/timer-clock.ts';
import { LIBVIRT_ERROR, LibvirtError } from '../libvirt.ts';
import type { FakeDomain } from './fake-domain.ts';

/** Seconds libvirt waits for an agent when the caller sets nothing. */
const AGENT_TIMEOUT_S = 5;
const HANDLE = 1000;

/** The guest agent of the fake hypervisor: the commands Foreshade sends, answered from the guest's state. */
export class FakeAgentCommands {
  readonly #clock: TimerClock;

  constructor(clock: TimerClock) {
    this.#clock = clock;
  }

  /** Run `work` if the agent answers; a hung one costs its time-out. */
  run<T>(call: string, domain: FakeDomain, work: () => T, timeoutS = AGENT_TIMEOUT_S): T | Promise<T> {
    if (domain.agent === 'absent') {
      throw agentError(call, LIBVIRT_ERROR.argumentUnsupported, 'QEMU guest agent is not configured');
    }
    if (domain.agent === 'disconnected' || domain.state !== 'running') {
      throw agentError(call, LIBVIRT_ERROR.agentUnresponsive, 'QEMU guest agent is not connected');
    }
    if (domain.agent === 'answers') return work();
    return new Promise((_, reject) => {
      const message = 'Guest agent is not responding: QEMU guest agent is not connected';
      this.#clock.after(timeoutS * 1000, () =>
        reject(agentError(call, LIBVIRT_ERROR.agentUnresponsive, message)),
      );
    });
  }

  /** Switch vCPUs so that `count` are online, lowest first. */
  setOnline(domain: FakeDomain, count: number): void {
    const plugged = domain.vcpus.filter((vcpu) => vcpu.plugged);
    for (const [i, vcpu] of plugged.entries()) {
      vcpu.online = i < count;
      vcpu.onlineAtMs = Number.POSITIVE_INFINITY;
    }
  }

  command(domain: FakeDomain, command: string): string {
    const { execute, arguments: args = {} } = JSON.parse(command) as {
      execute: string;
      arguments?: Record<string, unknown>;
    };
    switch (execute) {
      case 'guest-get-vcpus':
        return answer(
          domain.vcpus.flatMap((vcpu, i) =>
            vcpu.plugged && (vcpu.online || vcpu.onlineAtMs === Number.POSITIVE_INFINITY)
              ? [{ 'logical-id': i, online: vcpu.online, 'can-offline': i > 0 }]
              : [],
          ),
        );
      case 'guest-file-open':
        if (args.path !== '/proc/meminfo') break;
        return answer(HANDLE);
      case 'guest-file-read': {
        const text = meminfo(domain);
        return answer({ count: text.length, 'buf-b64': Buffer.from(text).toString('base64'), eof: false });
      }
      case 'guest-file-close':
        return answer({});
    }
    throw agentError(
      'qemuAgentCommand',
      LIBVIRT_ERROR.internal,
      `unable to execute QEMU agent command '${execute}': The command ${execute} has not been found`,
    );
  }
}

function meminfo(domain: FakeDomain): string {
  const stats = domain.memoryStats(0, 0);
  const totalKib = stats.availableKib ?? domain.bootMemoryKib;
  return `MemTotal:       ${totalKib} kB\nMemFree:        ${stats.unusedKib ?? 0} kB\nMemAvailable:   ${stats.usableKib ?? 0} kB\n`;
}

function answer(value: unknown): string {
  return JSON.stringify({ return: value });
}

function agentError(call: string, code: number, message: string): LibvirtError {
  return new LibvirtError({ code, domain: 10, level: 2, message, call });
}
