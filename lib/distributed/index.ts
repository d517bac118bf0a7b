/**
 * Several processes as one program, by PyTorch's own c10d: `torch.distributed`.
 *
 * @module
 */

export {
  destroyProcessGroup,
  getBackend,
  initProcessGroup,
  isInitialized,
  newGroup,
  ProcessGroup,
  rank,
  worldSize,
} from './group';
export type { Backend, InitProcessGroupOptions, NewGroupOptions } from './group';
export {
  allGather,
  allReduce,
  allToAll,
  barrier,
  broadcast,
  gather,
  recv,
  reduce,
  reduceScatter,
  scatter,
  send,
} from './collectives';
export type {
  DestinationOption,
  GroupOption,
  MessageOptions,
  ReduceOp,
  ReduceOptions,
  SourceOption,
} from './collectives';
export { allGatherObject, broadcastObject, broadcastObjectList, gatherObject } from './objects';
