import { Command } from 'commander';
import type { Anomaly } from '../../proto/gen/foreshade/v1/admin.ts';
import { anomalyDocument } from './documents.ts';
import { type Io, printAnswer } from './io.ts';
import { addClientOptions, type ClientOptions, withClient } from './options.ts';
import { localTime } from './quantities.ts';
import { table } from './table.ts';

/** `foreshade anomaly ls`. */
export function anomalyCommand(io: Io): Command {
  const ls = addClientOptions(
    new Command('ls').description(
      'List anomalies, newest first: those that last, and the latest of those over',
    ),
  )
    .option('--guest <guest>', 'only those of this guest, by UUID or name')
    .action(async ({ guest, ...options }: ClientOptions & { guest?: string }) => {
      const { anomalies } = await withClient(io, options, (client) =>
        client.ask(
          client.admin,
          client.admin.listAnomalies,
          { guest },
          { timeoutMs: options.timeout, signal: io.signal },
        ),
      );
      printAnswer(io, options.json, {
        document: { anomalies: anomalies.map(anomalyDocument) },
        text: anomalies.length === 0 ? 'no anomalies' : anomalyTable(anomalies),
      });
    });
  return new Command('anomaly').description('List what guests did that they should not').addCommand(ls);
}

function anomalyTable(anomalies: readonly Anomaly[]): string {
  return table(
    ['KIND', 'SEVERITY', 'GUEST', 'LEASE', 'SINCE', 'UNTIL', 'WHY'],
    anomalies.map(({ kind, severity, guestName, leaseId, startMs, clearedAtMs, reason }) => [
      kind ?? '',
      severity ?? '',
      guestName ?? '',
      leaseId || '-',
      localTime(startMs),
      clearedAtMs === undefined ? 'lasts' : localTime(clearedAtMs),
      reason ?? '',
    ]),
  );
}
