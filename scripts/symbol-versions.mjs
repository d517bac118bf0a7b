// Which versions of glibc and libstdc++ an ELF file needs, and by which symbols: what `objdump -T` prints, without it.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { SetupError } from './steps.mjs';

/** What libtorch itself needs: the oldest systems that it loads on (docs/install.md). gcc 8's libstdc++, glibc 2.28. */
export const NEWEST = { GLIBC: '2.28', GLIBCXX: '3.4.25', CXXABI: '1.3.11', GCC: '8.0.0' };

const SHT_DYNSYM = 11;
const SHT_GNU_VERNEED = 0x6ffffffe;
const SHT_GNU_VERSYM = 0x6fffffff;

/** Throws where a library needs newer versions than `NEWEST`, naming each symbol. */
export function checkSymbolVersions(files) {
  const newer = files.flatMap((file) =>
    neededSymbols(readFileSync(file), file)
      .filter(({ version }) => isNewer(version))
      .map(({ symbol, version }) => `  ${path.basename(file)}: ${symbol} (${version})`),
  );
  if (newer.length === 0) return;
  const bounds = Object.entries(NEWEST).map(([name, version]) => `${name}_${version}`);
  throw new SetupError(
    `these symbols are newer than ${bounds.join(', ')}, on which libtorch loads:\n${newer.join('\n')}\n` +
      'Avoid them, or ask for an older version in native/symbol_versions.h.',
  );
}

function isNewer(version) {
  const [, name, number] = /^([A-Z]+)_([\d.]+)$/.exec(version) ?? [];
  if (NEWEST[name] === undefined) return false; // of libtorch and of others that come with it
  const [have, bound] = [number, NEWEST[name]].map((text) => text.split('.').map(Number));
  for (let i = 0; i < Math.max(have.length, bound.length); i++) {
    if ((have[i] ?? 0) !== (bound[i] ?? 0)) return (have[i] ?? 0) > (bound[i] ?? 0);
  }
  return false;
}

/** Every undefined symbol that has a version: `{ symbol, version }`. */
export function neededSymbols(bytes, file) {
  const sections = sectionsOf(bytes, file);
  const only = (type) => sections.find((section) => section.type === type);
  const [dynsym, versym, verneed] = [SHT_DYNSYM, SHT_GNU_VERSYM, SHT_GNU_VERNEED].map(only);
  if (dynsym === undefined) throw new SetupError(`${file} has no dynamic symbols: it is not a shared library`);
  if (versym === undefined || verneed === undefined) return [];
  const text = (offset) => {
    const start = sections[dynsym.link].offset + offset;
    return bytes.toString('latin1', start, bytes.indexOf(0, start));
  };
  const versions = versionsOf(bytes, verneed, text);
  const needed = [];
  for (let i = 0; i < dynsym.size / 24; i++) {
    const at = dynsym.offset + 24 * i;
    const isDefined = bytes.readUInt16LE(at + 6) !== 0;
    const version = versions.get(bytes.readUInt16LE(versym.offset + 2 * i) & 0x7fff);
    if (!isDefined && version !== undefined) needed.push({ symbol: text(bytes.readUInt32LE(at)), version });
  }
  return needed;
}

function sectionsOf(bytes, file) {
  const is64BitsLittleEndian = bytes.toString('latin1', 0, 6) === '\x7fELF\x02\x01';
  if (!is64BitsLittleEndian) throw new SetupError(`${file} is not an ELF file of 64 bits, little-endian`);
  const start = Number(bytes.readBigUInt64LE(40));
  return Array.from({ length: bytes.readUInt16LE(60) }, (_, i) => {
    const at = start + i * bytes.readUInt16LE(58);
    return {
      type: bytes.readUInt32LE(at + 4),
      offset: Number(bytes.readBigUInt64LE(at + 24)),
      size: Number(bytes.readBigUInt64LE(at + 32)),
      link: bytes.readUInt32LE(at + 40),
      count: bytes.readUInt32LE(at + 44),
    };
  });
}

/** The names of versions by the number that symbols refer to them with. */
function versionsOf(bytes, verneed, text) {
  const versions = new Map();
  for (let file = verneed.offset, i = 0; i < verneed.count; i++) {
    for (let at = file + bytes.readUInt32LE(file + 8), j = 0; j < bytes.readUInt16LE(file + 2); j++) {
      versions.set(bytes.readUInt16LE(at + 6), text(bytes.readUInt32LE(at + 8)));
      at += bytes.readUInt32LE(at + 12);
    }
    file += bytes.readUInt32LE(file + 12);
  }
  return versions;
}
