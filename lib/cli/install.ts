import { Command } from 'commander';
import { cacheDirectory } from '../install/cache';
import { discoverLibtorch } from '../install/discover';
import { ensureLibtorch } from '../install/install';
import { terminalReporter } from '../install/report';
import { indexPage } from '../install/wheel-index';
import { flag, jsonFlag } from './flags';
import { print } from './output';

interface InstallFlags {
  fromFile?: string;
  variant?: string;
  dryRun?: boolean;
  json?: boolean;
}

/** `torchbind install`. */
export function installCommand(): Command {
  return new Command('install')
    .summary("download libtorch into the user's cache")
    .description(
      "Downloads libtorch into the user's cache, unless this machine already has one that torchbind can use.",
    )
    .addOption(
      flag('--from-file <file>', 'install from this file, a wheel of torch or a zip of libtorch, without a download'),
    )
    .addOption(flag('--variant <name>', 'build to download: cpu (default), cu130, ...'))
    .addOption(flag('--dry-run', 'print what would be done, and do nothing'))
    .addOption(jsonFlag())
    .action(install);
}

async function install({ fromFile, variant, dryRun, json }: InstallFlags): Promise<void> {
  if (dryRun === true) {
    const { found, refused } = discoverLibtorch();
    const from = fromFile ?? indexPage(variant ?? 'cpu', process.env);
    const plan = { found: found ?? null, refused, wouldFetchFrom: found ? null : from, cache: cacheDirectory() };
    print(json, plan, found ? `found: ${found.root}` : `would fetch from ${from} into ${cacheDirectory()}`);
    return;
  }
  const libtorch = await ensureLibtorch({ variant, fromFile, reporter: terminalReporter() });
  print(json, libtorch, `libtorch ${libtorch.version}: ${libtorch.root}`);
}
