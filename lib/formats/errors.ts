export { CheckpointCode, CheckpointError, type CheckpointErrorDetails } from '../pickle/errors';
