import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { partsOf, saveModel } from '../../models/files/model-file.ts';
import { readOnnx } from '../../models/files/onnx-reader.ts';
import { writeOnnx } from '../../models/files/onnx-writer.ts';
import { NOT_EXPORTED, recurrentPart, withRecurrentPart } from '../../models/files/series-onnx.ts';
import { Random } from '../../models/train/random.ts';
import { startingModel } from '../../models/train/starting-model.ts';
import { SeriesKernels } from '../wasm/series.ts';
import { TrainingKernels } from '../wasm/training.ts';
import { type Io, printAnswer } from './io.ts';
import { checkedName, loadModel, modelFolder } from './model-folder.ts';
import { facts } from './table.ts';
import { unusable, writeWhole } from './whole-file.ts';

interface ExchangeOptions {
  readonly models?: string;
  readonly json?: boolean;
}

/** Write the recurrent part of a model as an ONNX file, whole or not at all. */
export async function exportModel(
  io: Io,
  name: string,
  { onnx, models, json }: ExchangeOptions & { readonly onnx: string },
): Promise<void> {
  const kernels = await SeriesKernels.load();
  const { manifest, weights } = await loadModel(io, kernels, name, models);
  const file = writeOnnx(recurrentPart(weights, partsOf(kernels)));
  const path = await writeWhole(onnx, file);
  const { inputs, hidden, knotSteps, groups } = kernels;
  const model = `${manifest.name}@${manifest.version}`;
  printAnswer(io, json, {
    document: {
      model: manifest.name,
      version: manifest.version,
      file: path,
      bytes: file.length,
      inputs,
      hidden,
      knots: knotSteps,
      experts: groups,
      not_exported: NOT_EXPORTED,
    },
    text: facts([
      ['model', model],
      ['written to', `${path}, ${file.length.toLocaleString('en-US')} bytes`],
      ['input', `x: steps x rows x ${inputs}; h, c: 1 x rows x ${hidden}`],
      [
        'output',
        `logits: rows x ${knotSteps.length * groups} (${knotSteps.length} knots x ${groups} experts)`,
      ],
      ...NOT_EXPORTED.map((lack, i): [string, string] => [i === 0 ? 'not in it' : '', lack]),
    ]),
  });
}

/** Make a model of an LSTM and linear head that were trained elsewhere; all else is as before any training. */
export async function importModel(
  io: Io,
  from: string,
  { out, models, json }: ExchangeOptions & { readonly out: string },
): Promise<void> {
  const name = checkedName(out);
  const file = await readFile(from).catch((cause) => {
    throw unusable(`${from} cannot be read`, cause);
  });
  const kernels = await SeriesKernels.load();
  const parts = partsOf(kernels);
  const starting = startingModel(kernels, await TrainingKernels.load(kernels.inputs), new Random(0));
  const weights = withRecurrentPart(readOnnx(file), parts, starting);
  const imported = { file: basename(from), sha256: createHash('sha256').update(file).digest('hex') };
  const { path, version } = await saveModel(
    join(modelFolder(io, models), name),
    { name, createdAt: new Date().toISOString(), ...parts, data: [], imported },
    parts,
    weights,
  );
  printAnswer(io, json, {
    document: { model: name, version, path, imported, starts_anew: ['trust'] },
    text: facts([
      ['model', `${name}@${version}`],
      ['kept in', path],
      ['imported from', imported.file],
      ['as before training', 'how far the record of an expert moves its logit'],
    ]),
  });
}
