import { isDeepStrictEqual } from 'node:util';
import { bundleFiles, type JsonObject, parseJson } from './files';
import type { Origin } from './saved-model';

/** The generation options among the files of a model; undefined if the file is missing or is not JSON. */
export function keptGenerationJson({ kept }: Origin): JsonObject | undefined {
  const bytes = filesOf(kept)?.get(bundleFiles.generation);
  try {
    return bytes === undefined ? undefined : parseJson(bytes.toString());
  } catch {
    return undefined; // kept byte for byte, and of no use
  }
}

/** The origin with other options among its files, where it has files of Hugging Face. The bytes of the same options stay. */
export function withGenerationJson(origin: Origin, json: Readonly<JsonObject> | undefined): Origin {
  const files = filesOf(origin.kept);
  if (json === undefined || files === undefined || isDeepStrictEqual(json, keptGenerationJson(origin))) return origin;
  const changed = new Map(files).set(bundleFiles.generation, Buffer.from(`${JSON.stringify(json, null, 2)}\n`));
  return { ...origin, kept: new Map(origin.kept).set('files', changed) };
}

function filesOf(kept: ReadonlyMap<string, unknown>): ReadonlyMap<string, Buffer> | undefined {
  return kept.get('files') as ReadonlyMap<string, Buffer> | undefined;
}
