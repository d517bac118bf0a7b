#!/usr/bin/env node
/** `torchbind install` and `torchbind doctor`. Results go to stdout, progress to stderr. */
import { parseArgs } from 'node:util';
import { TorchBindError } from '../errors';
import { cacheDirectory } from './cache';
import { describeDiagnosis, diagnose } from './doctor';
import { discoverLibtorch } from './discover';
import { ensureLibtorch } from './install';
import { terminalReporter } from './report';
import { indexPage } from './wheel-index';

const USAGE = `torchbind install [options]   fetch libtorch into the user's cache, unless one is found
  --from-file FILE            take a wheel of torch or a zip of libtorch that is already here
  --variant NAME              which build to fetch: cpu (the default), cu130, ...
  --dry-run                   say what would be done, and do nothing
  --json                      print the result as JSON

torchbind doctor [--json]     say what works on this machine, what does not, and why
`;

async function main(argv: string[]): Promise<number> {
  const { values, positionals } = parse(argv);
  const [command] = positionals;
  if (values.help || command === undefined || positionals.length > 1) {
    process.stdout.write(USAGE);
    return values.help ? 0 : 2;
  }
  if (command === 'install') return install(values);
  if (command === 'doctor') return doctor(values.json);
  throw new TorchBindError(`Unknown command '${command}'.\n${USAGE}`, 'ERR_TORCHBIND_USAGE');
}

interface Flags {
  'from-file'?: string;
  variant?: string;
  'dry-run': boolean;
  json: boolean;
  help: boolean;
}

function parse(argv: string[]): { values: Flags; positionals: string[] } {
  try {
    return parseArgs({
      args: argv,
      allowPositionals: true,
      options: {
        'from-file': { type: 'string' },
        variant: { type: 'string' },
        'dry-run': { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
  } catch (error) {
    throw new TorchBindError(`${(error as Error).message}\n${USAGE}`, 'ERR_TORCHBIND_USAGE', { cause: error });
  }
}

async function install(flags: Flags): Promise<number> {
  if (flags['dry-run']) {
    const { found, refused } = discoverLibtorch();
    const from = flags['from-file'] ?? indexPage(flags.variant ?? 'cpu', process.env);
    const plan = { found: found ?? null, refused, wouldFetchFrom: found ? null : from, cache: cacheDirectory() };
    print(flags.json, plan, found ? `found: ${found.root}` : `would fetch from ${from} into ${cacheDirectory()}`);
    return 0;
  }
  const { variant, 'from-file': fromFile } = flags;
  const libtorch = await ensureLibtorch({ variant, fromFile, reporter: terminalReporter() });
  print(flags.json, libtorch, `libtorch ${libtorch.version}: ${libtorch.root}`);
  return 0;
}

function doctor(json: boolean): number {
  const diagnosis = diagnose();
  print(json, diagnosis, describeDiagnosis(diagnosis));
  return diagnosis.ok ? 0 : 1;
}

function print(json: boolean, value: unknown, text: string): void {
  process.stdout.write(`${json ? JSON.stringify(value, null, 2) : text}\n`);
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    process.stderr.write(`${error instanceof TorchBindError ? error.message : String(error)}\n`);
    process.exitCode = error instanceof TorchBindError && error.code === 'ERR_TORCHBIND_USAGE' ? 2 : 1;
  },
);
