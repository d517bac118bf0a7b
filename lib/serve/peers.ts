import { TorchBindError } from '../errors';

export interface Peers {
  fastify: typeof import('fastify').fastify;
  prometheus: typeof import('prom-client');
}

/**
 * The packages that only servers need, and that the package does not bring.
 *
 * @throws ERR_TORCHBIND_MISSING_PACKAGE
 */
export async function loadPeers(): Promise<Peers> {
  try {
    const [{ fastify }, prometheus] = await Promise.all([import('fastify'), import('prom-client')]);
    return { fastify, prometheus };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== 'ERR_MODULE_NOT_FOUND' && code !== 'MODULE_NOT_FOUND') throw error;
    throw new TorchBindError(
      `The server needs the packages fastify and prom-client: run 'npm install fastify prom-client'. (${message.split('\n')[0]})`,
      'ERR_TORCHBIND_MISSING_PACKAGE',
      { cause: error },
    );
  }
}
