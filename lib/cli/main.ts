#!/usr/bin/env node
/** The command `torchbind`. Data goes to stdout, progress and remarks to stderr. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Command, CommanderError, Help, type Option } from 'commander';
import { compareCommand } from './compare';
import { convertCommand } from './convert';
import { describeError, exitStatus, usageError } from './errors';
import { shownFlags } from './flags';
import { downloadCommand } from './download';
import { evaluateCommand } from './evaluate';
import { exportCommand } from './export';
import { generateCommand } from './generate';
import { inspectCommand } from './inspect';
import { listCommand } from './list';
import { serveCommand } from './serve';
import { trainCommand } from './train';

/** Exit statuses: 0 done, 1 failed, 2 wrong use, 130 stopped by Ctrl-C. */
const wrongUse = 2;

function packageVersion(): string {
  const text = readFileSync(path.join(__dirname, '../../package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

async function createProgram(): Promise<Command> {
  // install and doctor explain why torchbind does not load, so that they must not need it themselves.
  const { installCommand } = await import('./install.js');
  const { doctorCommand } = await import('./doctor.js');
  const program = new Command('torchbind')
    .description('Trains and runs GPT models, and inspects and converts their checkpoints.')
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpCommand(false);
  program.commandsGroup('Models:');
  for (const command of [trainCommand(), generateCommand(), evaluateCommand(), serveCommand()])
    program.addCommand(command);
  program.commandsGroup('Checkpoints:');
  for (const command of [
    listCommand(),
    inspectCommand(),
    compareCommand(),
    convertCommand(),
    exportCommand(),
    downloadCommand(),
  ]) {
    program.addCommand(command);
  }
  program.commandsGroup('This machine:');
  for (const command of [installCommand(), doctorCommand()]) program.addCommand(command);
  for (const command of [program, ...program.commands]) {
    command
      .exitOverride()
      .configureHelp({
        optionTerm: shownFlags,
        optionDescription: describeOption,
        helpWidth: Math.min(process.stdout.columns || 100, 110),
      })
      .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'torchbind: ')) })
      .showHelpAfterError(`See: torchbind ${command === program ? '' : `${command.name()} `}--help`);
  }
  return program;
}

/** What a toggle means without a value goes without saying. */
function describeOption(this: Help, option: Option): string {
  return Help.prototype.optionDescription
    .call(this, option)
    .replace(/preset: "true"(, )?/, '')
    .replace(/ \(\)$/, '');
}

/** With no command, MODE says which one, as in `MODE=resume CHECKPOINT_PATH=... torchbind`; without MODE the model writes text. */
function withCommand(argv: readonly string[]): string[] {
  const [first] = argv;
  const ofProgram = ['-h', '--help', '-V', '--version'];
  if (first !== undefined && (!first.startsWith('-') || ofProgram.includes(first))) return [...argv];
  const { MODE, CHECKPOINT_PATH } = process.env;
  if (MODE === 'resume') return ['train', ...argv];
  if (MODE === 'inference' || (!MODE && CHECKPOINT_PATH)) return ['generate', ...argv];
  if (MODE && CHECKPOINT_PATH) throw usageError(`Expected MODE=inference or MODE=resume, got MODE=${MODE}.`);
  return first === undefined ? ['--help'] : [...argv];
}

async function main(argv: readonly string[]): Promise<void> {
  const program = await createProgram();
  await program.parseAsync(withCommand(argv), { from: 'user' });
}

function report(error: unknown): void {
  if (error instanceof CommanderError) {
    // Its message has been shown already.
    process.exitCode = error.exitCode === 0 ? 0 : wrongUse;
    return;
  }
  process.stderr.write(`torchbind: ${describeError(error)}\n`);
  process.exitCode = exitStatus(error);
}

/** For an error that no promise carries. */
function endWith(error: unknown): never {
  report(error);
  process.exit();
}

// What reads the output may end first, as `head` does.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  endWith(error);
});
process.on('uncaughtException', endWith);

main(process.argv.slice(2)).catch(report);
