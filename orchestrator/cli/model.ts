import { readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Command } from 'commander';
import { servedVersion } from '../../models/files/current-version.ts';
import { readManifest, versionsIn } from '../../models/files/model-file.ts';
import { SeriesKernels } from '../wasm/series.ts';
import { type Io, printAnswer } from './io.ts';
import { cardDocument, cardText } from './model-card.ts';
import { exportModel, importModel } from './model-exchange.ts';
import { findModel, loadModel, modelFolder, shippedFolder } from './model-folder.ts';
import { type PromotionOptions, promoteModel } from './model-promotion.ts';
import { parseCount } from './quantities.ts';
import { parseFolders } from './set-folders.ts';
import { table } from './table.ts';

interface ModelOptions {
  readonly models?: string;
  readonly json?: boolean;
}

/** `foreshade model`: what trained models there are, and whether they are whole. */
export function modelCommand(io: Io): Command {
  const command = new Command('model').description('List, show, verify, exchange and promote trained models');
  const add = (usage: string, description: string): Command =>
    command
      .command(usage)
      .description(description)
      .option('--models <folder>', "where trained models are kept (default: the user's data folder)")
      .option('--json', 'print exactly one JSON document on stdout');
  add('ls', 'the models there are, version by version').action((options: ModelOptions) => list(io, options));
  add(
    'show <name>',
    "a model's card: data and licences, scores with and without its LSTM, limits; NAME or NAME@VERSION",
  ).action((name: string, options: ModelOptions) => show(io, name, options));
  add('verify <name>', "check a model's files: checksum, shapes, every number").action(
    (name: string, options: ModelOptions) => verify(io, name, options),
  );
  add('export <name>', "write a model's recurrent part for others to run")
    .requiredOption('--onnx <file>', 'the ONNX file to write')
    .action((name: string, options: ModelOptions & { onnx: string }) => exportModel(io, name, options));
  add('import <file>', 'make a model of an LSTM and linear head that were trained elsewhere, an ONNX file')
    .requiredOption('--out <name>', 'name of the model; a name that exists gets its next version')
    .action((file: string, options: ModelOptions & { out: string }) => importModel(io, file, options));
  add(
    'promote <name@version>',
    'let a version serve if it is better than the one that does, on what was held back',
  )
    .requiredOption('--data <folders>', 'series sets to judge on, by commas', parseFolders)
    .option('--horizon <steps>', 'steps forecast at each origin', parseCount, 48)
    .option('--windows <count>', 'the last so many horizons of each series', parseCount, 8)
    .action((name: string, options: PromotionOptions) => promoteModel(io, name, options));
  return command;
}

interface ListedModel {
  readonly name: string;
  readonly version: number;
  readonly created_at: string;
  readonly sets: readonly string[];
  readonly path: string;
  /** It is the one that is meant when no version is named. */
  readonly serves: boolean;
}

async function list(io: Io, { models, json }: ModelOptions): Promise<void> {
  const found: ListedModel[] = [];
  for (const home of [modelFolder(io, models), shippedFolder()]) {
    const names = await readdir(home).catch(() => []);
    for (const name of names.sort()) {
      const versions = await versionsIn(join(home, name));
      const serves = versions.length === 0 ? undefined : await servedVersion(join(home, name));
      for (const version of versions) {
        const path = join(home, name, String(version));
        const { createdAt, data } = await readManifest(path);
        const sets = data.map((set) => set.name);
        found.push({ name, version, created_at: createdAt, sets, path, serves: version === serves });
      }
    }
  }
  const rows = found.map((m) => [
    `${m.name}@${m.version}`,
    m.serves ? 'serves' : '',
    m.created_at,
    m.sets.join(', '),
  ]);
  printAnswer(io, json, {
    document: { models: found },
    text: rows.length === 0 ? 'there is no model' : table(['model', '', 'made at', 'trained on'], rows),
  });
}

async function show(io: Io, name: string, { models, json }: ModelOptions): Promise<void> {
  const path = await findModel(io, name, models);
  const manifest = await readManifest(path);
  const serves = (await servedVersion(dirname(path))) === manifest.version;
  printAnswer(io, json, {
    document: cardDocument(manifest, serves),
    text: cardText(manifest, path, serves),
  });
}

async function verify(io: Io, name: string, { models, json }: ModelOptions): Promise<void> {
  const { manifest, weights } = await loadModel(io, await SeriesKernels.load(), name, models);
  printAnswer(io, json, {
    document: { model: manifest.name, version: manifest.version, weights: weights.length, whole: true },
    text: `${manifest.name}@${manifest.version} is whole: ${weights.length.toLocaleString('en-US')} weights, checksum as its manifest has it`,
  });
}
