#!/usr/bin/env node
/** The command `torchbind`. Data goes to stdout, progress and remarks to stderr. */
import { Command, CommanderError, Help, type Option } from 'commander';
import { TorchBindError } from '../errors';
import { compareCommand } from './compare';
import { convertCommand } from './convert';
import { shownFlags } from './flags';
import { generateCommand } from './generate';
import { inspectCommand } from './inspect';
import { listCommand } from './list';
import { trainCommand } from './train';

/** Exit statuses: 0 done, 1 failed, 2 wrong use, 130 stopped by Ctrl-C. */
const failed = 1;
const wrongUse = 2;

async function createProgram(): Promise<Command> {
  // install and doctor explain why torchbind does not load, so that they must not need it themselves.
  const { installCommand } = await import('./install.js');
  const { doctorCommand } = await import('./doctor.js');
  const program = new Command('torchbind')
    .description('Train, run and look into GPT checkpoints of PyTorch.')
    .helpCommand(false);
  program.commandsGroup('Models:');
  for (const command of [trainCommand(), generateCommand()]) program.addCommand(command);
  program.commandsGroup('Checkpoints:');
  for (const command of [listCommand(), inspectCommand(), compareCommand(), convertCommand()]) {
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

/** With no command, MODE says which one, as in `MODE=resume CHECKPOINT_PATH=... torchbind`. */
function withCommand(argv: readonly string[]): string[] {
  const [first] = argv;
  if (first !== undefined && (!first.startsWith('-') || ['-h', '--help'].includes(first))) return [...argv];
  const { MODE } = process.env;
  if (MODE === 'inference') return ['generate', ...argv];
  if (MODE === 'resume') return ['train', ...argv];
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
  const isOurs = error instanceof TorchBindError;
  process.stderr.write(`torchbind: ${isOurs ? error.message : String((error as Error).stack ?? error)}\n`);
  process.exitCode = isOurs && error.code === 'ERR_TORCHBIND_USAGE' ? wrongUse : failed;
}

// What reads the output may end first, as `head` does.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

main(process.argv.slice(2)).catch(report);
