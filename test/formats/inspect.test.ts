/** inspect() of single files that Python wrote: sound, damaged and hostile ones. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { inspect as show } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { type Inspection, inspect } from '../../lib/checkpoint';
import { CheckpointError } from '../../lib/errors';
import { surveyPickle } from '../../lib/pickle/survey';
import { runAtOnce } from '../../lib/workers/slices';
import { memory } from '../../lib/tensor/scope';
import { pythonTimeout, runPython } from '../helpers/python';
import { sharedTemporaryDirectory } from '../helpers/tmp';

const directory = sharedTemporaryDirectory();
const at = (name: string): string => path.join(directory, name);

beforeAll(async () => {
  await runPython(path.join(__dirname, 'inspect_files.py'), [directory]);
}, pythonTimeout);

const names = ({ tensors }: Inspection): string[] => tensors.map(({ name }) => name);
const codes = ({ problems }: Inspection): string[] => problems.map(({ code }) => code);
const verdicts = ({ globals }: Inspection): Record<string, string> =>
  Object.fromEntries(globals.map(({ name, verdict, called }) => [name, called ? `${verdict}, called` : verdict]));

describe('a whole checkpoint', () => {
  it.each([
    ['nano.pt', 'zip'],
    ['nano-stream.pt', 'stream'],
    ['deflated.pt', 'zip'],
  ])('%s is described without making a tensor', async (file, kind) => {
    const before = memory();
    const report = await inspect(at(file));
    expect(memory()).toEqual(before);
    expect(report.problems).toEqual([]);
    expect(report.container).toMatchObject({ kind, byteOrder: 'little', version: kind === 'zip' ? '3' : null });
    expect(report.family).toMatchObject({ name: 'nanogpt' });
    expect(report.family!.saw.join('\n')).toContain('(36, 12)');
    expect(report.step).toBe(250);
    expect(report.config).toMatchObject({ n_layer: 2, n_head: 3, bias: false, dropout: 0 });
    expect(report.tensors).toHaveLength(62);
    expect(report.tensors[3]).toMatchObject({
      ...{ name: 'model.transformer.h.0.attn.c_attn.weight', dtype: 'float32', shape: [36, 12], bytes: 1728 },
      ...{ kind: 'tensor', file: null },
    });
    expect(report.shared.map(({ tensors, bytes }) => [tensors, bytes])).toEqual([
      [['model.transformer.wte.weight', 'model.lm_head.weight'], 960],
    ]);
    // (20 + 8) * 12 + 2 * (12 + 36 * 12 + 12 * 12 + 12 + 48 * 12 + 12 * 48) + 12, the tied head once.
    expect(report.totals).toMatchObject({ parameters: 3852, tensors: 62, bytes: 3852 * 4 + 3852 * 8 + 15 * 4 + 4 });
    expect(report.totals.byDtype).toEqual({ float32: { tensors: 62, bytes: 3852 * 12 + 15 * 4 + 4 + 960 } });
    expect(report.optimizer).toEqual({
      groups: [
        { lr: 6e-4, weightDecay: 0.1, parameters: 10, named: false },
        { lr: 6e-4, weightDecay: 0, parameters: 5, named: false },
      ],
      states: 15,
      parts: ['step', 'exp_avg', 'exp_avg_sq'],
      dtypes: ['float32'],
      bytes: 3852 * 8 + 15 * 4,
    });
    expect(new Set(report.globals.map(({ verdict }) => verdict))).toEqual(new Set(['known']));
  });

  it('has its checksums compared on request', async () => {
    expect((await inspect(at('nano.pt'))).integrity).toMatchObject({ checksums: 'crc32', verified: null });
    for (const file of ['nano.pt', 'deflated.pt'])
      expect((await inspect(at(file), { verify: true })).integrity).toMatchObject({ verified: true, truncated: false });
    const zero = await inspect(at('zero.pt'), { verify: true });
    expect(zero.integrity).toMatchObject({ checksums: 'zero', verified: null });
  });

  it('with a flipped bit is told by them', async () => {
    const bytes = readFileSync(at('nano.pt'));
    const place = bytes.indexOf('data/5');
    bytes[place + 200]! ^= 4;
    writeFileSync(at('flipped.pt'), bytes);
    expect((await inspect(at('flipped.pt'))).problems).toEqual([]);
    const report = await inspect(at('flipped.pt'), { verify: true });
    expect(report.integrity.verified).toBe(false);
    expect(codes(report)).toEqual(['ERR_TORCHBIND_CHECKPOINT_CHECKSUM']);
  });

  it.each(['nano.pt', 'nano-stream.pt'])('%s that is cut short still names its tensors', async (file) => {
    const bytes = readFileSync(at(file));
    writeFileSync(at('cut.pt'), bytes.subarray(0, bytes.length - 5000));
    const report = await inspect(at('cut.pt'));
    expect(report.integrity.truncated).toBe(true);
    expect(report.family).toMatchObject({ name: 'nanogpt' });
    expect(report.tensors).toHaveLength(62);
    expect(report.globals.length).toBeGreaterThan(0);
  });

  it('gives an answer or a CheckpointError wherever it is cut', async () => {
    const bytes = readFileSync(at('hostile.pt'));
    for (let length = 0; length < bytes.length; length += 7) {
      writeFileSync(at('piece.pt'), bytes.subarray(0, length));
      const report = await inspect(at('piece.pt')).catch((error: unknown) => error);
      if (report instanceof Error) expect(report).toBeInstanceOf(CheckpointError);
      else expect((report as Inspection).problems).not.toEqual([]);
    }
  });
});

it('lists every kind of tensor, wherever it is', async () => {
  const report = await inspect(at('kinds.pt'));
  expect(report.tensors.map(({ name, kind, dtype, bytes }) => [name, kind, dtype, bytes])).toEqual([
    ['base', 'tensor', 'float32', 48],
    ['view', 'tensor', 'float32', 16],
    ['sparse', 'sparse', 'float32', 60],
    ['meta', 'meta', 'float32', 0],
    ['quantized', 'quantized', 'qint8', 4],
    ['array', 'array', 'float32', 24],
    ['parameter', 'parameter', 'bfloat16', 4],
    ['list.0', 'tensor', 'float32', 4],
    ['list.1.deep', 'tensor', 'float32', 8],
  ]);
  expect(verdicts(report)['argparse.Namespace']).toBe('inert, called');
  expect(codes(report)).toEqual(['ERR_TORCHBIND_CHECKPOINT_GLOBAL']);
});

it('names the tensors of a pickled module as its state dict does', async () => {
  const report = await inspect(at('module.pt'));
  expect(names(report)).toEqual(['0.weight', '0.bias']);
  expect(verdicts(report)).toMatchObject({ 'torch.nn.modules.linear.Linear': 'inert, called' });
  expect(report.totals.parameters).toBe(9);
});

describe('what a hostile file names is told, and nothing of it runs', () => {
  it.each([
    ['hostile.pt', 'zip', 'posix.system', ['w']],
    ['hostile-stream.pt', 'stream', 'builtins.eval', ['w']],
    ['bare.pt', 'pickle', 'os.system', []],
  ])('%s', async (file, kind, name, tensors) => {
    const report = await inspect(at(file));
    expect(report.container.kind).toBe(kind);
    expect(verdicts(report)[name]).toBe('attack-only, called');
    expect(names(report)).toEqual(tensors);
    expect(codes(report)).toContain('ERR_TORCHBIND_CHECKPOINT_GLOBAL');
    expect(existsSync(at('harm'))).toBe(false);
  });

  const text = (value: string): string => `\x8c${String.fromCharCode(value.length)}${value}`;
  it.each([
    ['INST', '(ios\nsystem\n.'],
    ['OBJ', '(cos\nsystem\no.'],
    ['NEWOBJ_EX', 'cos\nsystem\n)}\x92.'],
    ['strings from the memo', `${text('os')}\x940${text('system')}\x940h\x00h\x01\x93)R.`],
    ['a broken text before', 'X\x01\x00\x00\x00\xff0cos\nsystem\n)R.'],
    ['a memo index beyond the pickle', 'Nr\xff\xff\xff\xff0cos\nsystem\n)R.'],
    ['a call of what stands in the memo', 'cos\nsystem\nq\x000h\x00)R.'],
  ])('by %s', (_, pickle) => {
    const { globals } = runAtOnce(surveyPickle(Buffer.from(pickle, 'latin1')));
    expect(globals).toMatchObject([{ module: 'os', name: 'system', called: true }]);
  });

  it('also where the name is computed, or a number in a registry', () => {
    const survey = runAtOnce(surveyPickle(Buffer.from('cm\nf\n)R\x8c\x06system\x93\x82\x05.', 'latin1')));
    expect(survey.globals.map(({ module, name }) => `${module}.${name}`)).toEqual([
      'm.f',
      '?.system',
      'copyreg.extension 5',
    ]);
  });
});

describe('other files', () => {
  it('safetensors: tensors and metadata', async () => {
    const report = await inspect(at('two.safetensors'));
    expect(report.container.kind).toBe('safetensors');
    expect(report.metadata).toEqual({ format: 'pt' });
    expect(report.tensors.map(({ name, dtype, shape }) => [name, dtype, shape])).toEqual([
      ['a', 'float32', [3, 4]],
      ['b', 'bfloat16', [5]],
    ]);
    const bytes = readFileSync(at('two.safetensors'));
    writeFileSync(at('cut.safetensors'), bytes.subarray(0, bytes.length - 10));
    const cut = await inspect(at('cut.safetensors'));
    expect(cut.tensors).toHaveLength(2);
    expect(cut.integrity.truncated).toBe(true);
  });

  it('shards: those that are there, and those that are missing', async () => {
    const map = { a: 'two.safetensors', b: 'two.safetensors', c: 'gone.safetensors' };
    writeFileSync(at('m.safetensors.index.json'), JSON.stringify({ metadata: {}, weight_map: map }));
    const report = await inspect(at('m.safetensors.index.json'));
    expect(report.container).toMatchObject({ kind: 'shards', records: 2 });
    expect(report.tensors.map(({ name, file }) => [name, file])).toEqual([
      ['a', 'two.safetensors'],
      ['b', 'two.safetensors'],
    ]);
    expect(codes(report)).toEqual(['ERR_TORCHBIND_CHECKPOINT_OPEN', 'ERR_TORCHBIND_CHECKPOINT_CONTAINER']);
  });

  it('a program is named as one', async () => {
    const report = await inspect(at('script.pt'));
    expect(report.container.kind).toBe('program');
    expect(report.container.notes.join()).toContain('TorchScript');
  });

  it('text is no checkpoint; nothing cannot be opened', async () => {
    writeFileSync(at('notes.txt'), 'configuration\nof a model\n');
    const report = await inspect(at('notes.txt'));
    expect(report.container.kind).toBe('unknown');
    expect(report.problems[0]!.message).toContain('a text file');
    await expect(inspect(at('nowhere.pt'))).rejects.toMatchObject({ code: 'ERR_TORCHBIND_CHECKPOINT_OPEN' });
    await expect(inspect(at('nano.pt'), { verfy: true } as never)).rejects.toThrow("'verify'");
  });
});

describe('the printed form', () => {
  it('is what console.log shows', async () => {
    const report = await inspect(at('nano.pt'));
    expect(show(report)).toBe(String(report));
    expect(String(report)).toContain('totals      3,852 parameters, 62 tensors, 45.2 KiB');
    expect(String(report)).toContain('... and 22 more');
    expect((JSON.parse(JSON.stringify(report)) as Inspection).tensors).toHaveLength(62);
  });

  it('lets no control character of a file through', async () => {
    const header = JSON.stringify({ '\u001b[2Jx': { dtype: 'U8', shape: [1], data_offsets: [0, 1] } });
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    writeFileSync(at('escape.safetensors'), Buffer.concat([length, Buffer.from(`${header}\0`)]));
    const text = String(await inspect(at('escape.safetensors')));
    expect(text).toContain('\\u{1b}[2Jx');
    expect(text).not.toContain('\u001b');
  });
});
