export { createServer, type GPTServer, type ModelSource } from './server';
export type { ServedResponse, ServerLimits, ServerOptions } from './options';
