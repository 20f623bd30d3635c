import { Command, InvalidArgumentError } from 'commander';
import { DEFAULT_STATE_DIR } from '../../libvirt-adapter/lab/paths.ts';
import {
  type GuestReport,
  type LabReport,
  labDown,
  labExec,
  labStatus,
  labUp,
} from '../../libvirt-adapter/lab/report.ts';
import type { Io } from './io.ts';
import { recordCommand } from './lab-record.ts';

interface LabFlags {
  readonly stateDir: string;
  readonly json?: boolean;
}

function count(text: string): number {
  if (!/^\d{1,2}$/.test(text)) throw new InvalidArgumentError('It must be a whole number from 0 to 50.');
  return Number(text);
}

function guestLine(guest: GuestReport): string {
  const state = guest.pid === null ? 'off' : `pid ${guest.pid}`;
  const instructions = guest.instructions === null ? '' : `, ${guest.instructions} instructions`;
  return `  ${guest.name}  ${state}, up to ${guest.vcpus_max} vCPUs and ${guest.memory_mib_max} MiB${instructions}`;
}

function printReport(report: LabReport, flags: LabFlags): void {
  if (flags.json) {
    process.stdout.write(`${JSON.stringify(report)}\n`);
    return;
  }
  if (report.uri === null) {
    process.stdout.write(`no lab at ${report.state_dir}\n`);
    return;
  }
  const lines = [
    `lab at ${report.state_dir}: ${report.running ? 'running' : 'its libvirtd is gone'}`,
    `  libvirt  ${report.uri}`,
    `  service  foreshade serve --config ${report.service_config}`,
    ...report.guests.map(guestLine),
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
}

function withFlags(command: Command): Command {
  return command
    .option('--state-dir <folder>', "the lab's folder, an absolute path", DEFAULT_STATE_DIR)
    .option('--json', 'print one JSON document');
}

function upCommand(): Command {
  return withFlags(new Command('up'))
    .description('start a private libvirt daemon with tiny guests; an earlier lab is taken down first')
    .option('--guests <count>', 'how many', count, 1)
    .action(async (flags: LabFlags & { guests: number }) => {
      const onProgress = (line: string) => process.stderr.write(`${line}\n`);
      printReport(await labUp({ guests: flags.guests, stateDir: flags.stateDir, onProgress }), flags);
    });
}

function statusCommand(): Command {
  return withFlags(new Command('status'))
    .description('show the lab and its guests')
    .action(async (flags: LabFlags) => printReport(await labStatus(flags.stateDir), flags));
}

function execCommand(): Command {
  return withFlags(new Command('exec'))
    .description('run a command inside a guest; its exit code becomes ours')
    .argument('<guest>', 'such as lab-1')
    .argument('<command...>', 'after --')
    .action(async (guest: string, command: string[], flags: LabFlags) => {
      const outcome = await labExec(flags.stateDir, guest, command);
      if (flags.json) {
        const { exitCode, stdout, stderr } = outcome;
        process.stdout.write(`${JSON.stringify({ exit_code: exitCode, stdout, stderr })}\n`);
      } else {
        process.stdout.write(outcome.stdout);
        process.stderr.write(outcome.stderr);
      }
      process.exitCode = outcome.exitCode;
    });
}

function downCommand(): Command {
  return withFlags(new Command('down'))
    .description('end the lab; nothing of it remains')
    .action(async (flags: LabFlags) => {
      const removed = await labDown(flags.stateDir);
      const text = flags.json
        ? JSON.stringify({ state_dir: flags.stateDir, removed })
        : removed
          ? `the lab at ${flags.stateDir} is gone`
          : `no lab at ${flags.stateDir}`;
      process.stdout.write(`${text}\n`);
    });
}

/** `foreshade lab up|status|exec|down|record`: real, tiny guests to try things on. Needs root. */
export function labCommand(io: Io): Command {
  const lab = new Command('lab').description('tiny real guests behind a libvirt daemon of their own');
  for (const command of [upCommand(), statusCommand(), execCommand(), downCommand(), recordCommand(io)])
    lab.addCommand(command);
  return lab;
}
