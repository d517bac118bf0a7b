/** Fetches libtorch into the user's cache. */
import { existsSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { TorchBindError } from '../errors';
import { libtorchCache, stampProblem, writeStamp } from './cache';
import { discoverLibtorch, type FoundLibtorch } from './discover';
import { download, sha256OfFile, UnreachableError } from './download';
import { libtorchRoot, libtorchVersion, PINNED_VERSION, variantOf, versionRefusal } from './libtorch';
import { withLock } from './lock';
import { hasNvidiaDriver, isMusl } from './platform';
import { pipDownload, pipInstall } from './pip';
import { findPython, type Python } from './python';
import { silentReporter, type Reporter } from './report';
import { unpack } from './unpack';
import { findWheel } from './wheel-index';
import { cudaRequirements, requirementsOf } from './wheel-metadata';

export interface InstallOptions {
  /** A wheel of torch or a zip of libtorch to unpack: nothing is fetched. */
  fromFile?: string;
  /** The build to fetch: `cpu` (the default), `cu130`, ... */
  variant?: string;
  /** Only a build for this Python will do: `cp311`. Else any serves. */
  cpTag?: string;
  env?: NodeJS.ProcessEnv;
  reporter?: Reporter;
}

interface Context {
  variant: string;
  python: Python | undefined;
  cpTag: string | undefined;
  env: NodeJS.ProcessEnv;
  reporter: Reporter;
  /** For files on their way; it keeps a download that was cut short. */
  downloads: string;
}

interface Archive {
  file: string;
  source: string;
  /** Delete it once it is unpacked. */
  isOurs: boolean;
}

/** Returns the libtorch that discovery finds. If it finds none, downloads libtorch into the cache first. */
export async function ensureLibtorch(options: InstallOptions = {}): Promise<FoundLibtorch> {
  const env = options.env ?? process.env;
  if (options.fromFile === undefined && options.variant === undefined) {
    const discovery = discoverLibtorch(env);
    if (discovery.found !== undefined) return discovery.found;
    const [refusal] = discovery.refused;
    if (refusal !== undefined && refusal.source !== 'cache') {
      throw new TorchBindError(
        `${refusal.source} names a libtorch that cannot be used: ${refusal.path}: ${refusal.reason}. ` +
          `Correct it, or unset it to have libtorch ${PINNED_VERSION} fetched.`,
        'ERR_TORCHBIND_LIBTORCH',
      );
    }
  }
  const entry = await installLibtorch(options);
  const root = libtorchRoot(entry)!;
  return { source: 'cache', root, version: libtorchVersion(root)! };
}

/** Puts libtorch into the cache and returns the directory of the entry; one that is there and whole is left alone. */
export async function installLibtorch(options: InstallOptions = {}): Promise<string> {
  if (isMusl()) {
    throw new TorchBindError('libtorch is built for glibc only, and this system uses musl.', 'ERR_TORCHBIND_PLATFORM');
  }
  const env = options.env ?? process.env;
  const python = findPython(env);
  const context: Context = {
    variant: options.variant ?? 'cpu',
    python,
    cpTag: options.cpTag ?? python?.cpTag,
    env,
    reporter: options.reporter ?? silentReporter,
    downloads: path.join(libtorchCache(env), 'downloads'),
  };
  await mkdir(context.downloads, { recursive: true }).catch((error: Error) => {
    throw new TorchBindError(
      `The cache ${libtorchCache(env)} cannot be made: ${error.message}. Set XDG_CACHE_HOME to a directory of this user.`,
      'ERR_TORCHBIND_LIBTORCH',
      { cause: error },
    );
  });
  const install = async (): Promise<string> => {
    const archive = await obtainArchive(options.fromFile, context);
    const entry = await unpackEntry(archive, context);
    if (archive.isOurs) await rm(archive.file, { force: true });
    return entry;
  };
  return withLock(path.join(libtorchCache(env), '.lock'), install, () =>
    context.reporter.step('waiting for another installation of libtorch to end'),
  );
}

async function obtainArchive(fromFile: string | undefined, context: Context): Promise<Archive> {
  if (fromFile !== undefined) {
    if (!existsSync(fromFile))
      throw new TorchBindError(
        `The file ${fromFile} does not exist. Pass the path of a wheel of torch or a zip of libtorch.`,
        'ERR_TORCHBIND_LIBTORCH',
      );
    return { file: path.resolve(fromFile), source: path.resolve(fromFile), isOurs: false };
  }
  try {
    return await fetchFromIndex(context);
  } catch (error) {
    if (!(error instanceof UnreachableError)) throw error;
    context.reporter.step(`${error.message}; asking pip instead`);
    return fetchWithPip(context, error);
  }
}

async function fetchFromIndex({ variant, cpTag, env, reporter, downloads }: Context): Promise<Archive> {
  const wheel = await findWheel(variant, cpTag, env);
  const file = path.join(downloads, wheel.name);
  reporter.step(`downloading libtorch: ${wheel.url}`);
  await download(wheel.url, file, { sha256: wheel.sha256, reporter });
  return { file, source: wheel.url, isOurs: true };
}

async function fetchWithPip({ python, reporter, downloads }: Context, unreachable: Error): Promise<Archive> {
  if (python === undefined) {
    throw new TorchBindError(
      `${unreachable.message}, and PATH has no Python whose pip could download it. Install Python 3 with pip, ` +
        `set TORCHBIND_MIRROR to a mirror of PyTorch's index, or unpack a wheel that you have: ` +
        `npx torchbind install --from-file torch-${PINNED_VERSION}-....whl`,
      'ERR_TORCHBIND_MISSING_TOOL',
      { cause: unreachable },
    );
  }
  const directory = path.join(downloads, 'pip');
  await rm(directory, { recursive: true, force: true });
  reporter.step(`downloading libtorch: pip download torch==${PINNED_VERSION}`);
  const file = await pipDownload(python, `torch==${PINNED_VERSION}`, directory, reporter);
  return { file, source: `pip download torch==${PINNED_VERSION}`, isOurs: true };
}

/** Unpacks aside, checks, stamps, and moves into place. */
async function unpackEntry(archive: Archive, context: Context): Promise<string> {
  const { python, env, reporter } = context;
  const aside = path.join(libtorchCache(env), `unpacking-${process.pid}`);
  await rm(aside, { recursive: true, force: true });
  await mkdir(aside, { recursive: true });
  try {
    reporter.step(`unpacking ${path.basename(archive.file)}`);
    await unpack(archive.file, aside, reporter);
    const version = checkedVersion(archive, aside, env);
    await addCudaLibraries(aside, python, reporter);
    const [release] = version.split('+');
    const name = `${release}-${variantOf(version)}-${pythonTag(archive.file)}`;
    const entry = path.join(libtorchCache(env), name);
    if (existsSync(entry) && stampProblem(entry) === undefined) return entry;
    writeStamp(aside, {
      version,
      variant: variantOf(version),
      source: archive.source,
      sha256: await sha256OfFile(archive.file),
    });
    await rm(entry, { recursive: true, force: true });
    await rename(aside, entry);
    return entry;
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

function checkedVersion(archive: Archive, directory: string, env: NodeJS.ProcessEnv): string {
  const root = libtorchRoot(directory);
  if (root === undefined) {
    throw new TorchBindError(`${archive.file} holds no libtorch for this platform`, 'ERR_TORCHBIND_LIBTORCH');
  }
  const version = libtorchVersion(root);
  const refusal = versionRefusal(version, env);
  if (refusal !== undefined || version === undefined) {
    throw new TorchBindError(`${archive.file} is refused: ${refusal ?? 'no version'}`, 'ERR_TORCHBIND_LIBTORCH');
  }
  return version;
}

async function addCudaLibraries(directory: string, python: Python | undefined, reporter: Reporter): Promise<void> {
  const requirements = cudaRequirements(requirementsOf(directory), hasNvidiaDriver());
  if (requirements.length === 0) return;
  if (python === undefined) {
    throw new TorchBindError(
      `This build of libtorch uses CUDA libraries (${requirements.join(', ')}) that pip downloads, but PATH has no ` +
        `Python. Install Python 3 with pip, or take the cpu build.`,
      'ERR_TORCHBIND_MISSING_TOOL',
    );
  }
  reporter.step(`adding the CUDA libraries that this build of libtorch needs: ${requirements.map(nameOf).join(', ')}`);
  await pipInstall(python, requirements, directory, { reporter });
}

function nameOf(requirement: string): string {
  return requirement.split(';')[0]!.trim();
}

/** `cp311` from a wheel's name; `any` for a libtorch zip. */
function pythonTag(file: string): string {
  return /-(cp\d+)-/.exec(path.basename(file))?.[1] ?? 'any';
}
