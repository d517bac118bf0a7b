// The types speak of AbortSignal, URL and Symbol.dispose, which @types/node declares. A project without it is told so.
/// <reference types="node" preserve="true" />

/** The public surface of torchbind, and nothing else. */

export { CheckpointCode, CheckpointError, TorchBindError } from './errors';
export type { PathLike } from './errors';
export { versions } from './versions';
export type { Versions } from './versions';

// Tensors
export { Tensor } from './tensor/tensor';
export type { CastOptions, ToOptions } from './tensor/conversions';
export { newAxis, Slice, slice } from './tensor/indexing';
export { unique, uniqueConsecutive } from './tensor/unique';
export type { UniqueConsecutiveOptions, UniqueOptions } from './tensor/unique';
export {
  atleast1d,
  atleast2d,
  atleast3d,
  blockDiag,
  broadcastShapes,
  broadcastTensors,
  cartesianProd,
  cdist,
  chainMatmul,
  einsum,
  meshgrid,
  norm,
  stft,
  tensordot,
  unravelIndex,
} from './tensor/composites';
export type { CdistOptions, NormOptions, StftOptions, TensordotDims } from './tensor/composites';
export type { IndexArray, TensorIndex } from './tensor/indexing';
export type { TypedArrayOptions } from './tensor/interop';
export type { NamedTuple } from './tensor/named-tuple';
export { finfo, getDefaultDtype, iinfo, setDefaultDtype } from './tensor/dtype-info';
export type { FloatInfo, IntegerInfo } from './tensor/dtype-info';
export * from './tensor/dtype-names';
export type { DType, TypedArray } from './tensor/dtype';
export type { Complex, DeviceName, Layout, MemoryFormat, NestedValues, Scalar } from './tensor/schema-types';
export * from './tensor/generated/functions';
export {
  arange,
  asTensor,
  empty,
  eye,
  fromTypedArray,
  full,
  isTensor,
  linspace,
  ones,
  rand,
  randint,
  randn,
  randperm,
  scalarTensor,
  tensor,
  zeros,
} from './tensor/creation';
export type { RandomOptions, TensorOptions } from './tensor/creation';
export type { TensorData } from './tensor/values';
export { ops } from './tensor/ops';
export type { AtenOperators, OperatorNamespace, RawOperator, RawOverload } from './tensor/ops';
export { dispose, keep, memory, tidy } from './tensor/scope';
export { discard, receive, share } from './gpt/share';
export type { ModuleTicket } from './gpt/share';
export { transfer } from './tensor/transfer';
export type { TensorTicket } from './tensor/transfer';
export * as autograd from './tensor/autograd';
export {
  autocast,
  enableGrad,
  getAutocastDtype,
  grad,
  inferenceMode,
  isAutocastEnabled,
  isGradEnabled,
  isInferenceModeEnabled,
  noGrad,
  setGradEnabled,
} from './tensor/autograd';
export type {
  AutocastOptions,
  BackwardOptions,
  FunctionContext,
  GradcheckOptions,
  GradientHook,
  GradOptions,
  RemovableHandle,
} from './tensor/autograd';
export { Generator, getRngState, manualSeed, setRngState } from './tensor/random';
export type { CpuKernels } from './native/cpu-kernels';
export { cuda, getNumThreads, setNumThreads } from './tensor/device';
export type { CaptureMode, CaptureOptions, CUDAGraph } from './tensor/cuda-graph';
export type { DeviceMemory } from './tensor/cuda-memory';
export type { Event as CudaEvent, EventOptions, Stream as CudaStream, StreamOptions } from './tensor/cuda-streams';
export type { DeviceProperties } from './native/binding';
export {
  areDeterministicAlgorithmsEnabled,
  backends,
  getFloat32MatmulPrecision,
  setFloat32MatmulPrecision,
  useDeterministicAlgorithms,
} from './tensor/backends';
export type { Float32MatmulPrecision } from './tensor/backends';
export type * from './tensor/generated/tuples';

// Files
export { load, save } from './formats/pt';
export type { LoadLimits, LoadOptions, SaveOptions, SaveProgress } from './formats/pt';
export { loadSafetensors, NamedTensors, saveSafetensors } from './formats/safetensors';
export type { LoadSafetensorsOptions, SaveSafetensorsOptions } from './formats/safetensors';
export type {
  ContainerInfo,
  ContainerKind,
  GlobalInfo,
  InspectionProblem,
  SharedStorage,
  TensorInfo,
} from './formats/inspect/report';
export {
  ByteArray,
  ComplexValue,
  Counter,
  DefaultDict,
  Device,
  DictSubclass,
  DTypeValue,
  Float,
  FrozenSet,
  GlobalName,
  InertObject,
  NumpyScalar,
  OrderedDict,
  Size,
  TorchConstant,
  Tuple,
} from './pickle/types';

// Modules, optimizers, the model
export * as distributed from './distributed';
export * as nn from './nn';
export * as optim from './optim';
export * from './gpt';
export { createServer } from './serve';
export type { GPTServer, ModelSource, ServedResponse, ServerLimits, ServerOptions } from './serve';
export {
  applyLora,
  Bigram,
  configFromJson,
  configToJson,
  detectLayout,
  foldLora,
  KVCache,
  layoutNames,
  LoraLinear,
  mergeLora,
  unmergeLora,
} from './models';
export type {
  Activation,
  CheckpointLayout,
  GPTConfig,
  GPTModelOptions,
  GPTOptions,
  ForwardOptions,
  GPTOutput,
  LoraOptions,
  LoraSpec,
  QuantizeOptions,
} from './models';
export type {
  FinishReason,
  GenerateDetails,
  GenerateOptions,
  GenerateTokensOptions,
  TextGenerator,
} from './generation/generate';
export type {
  BeamOptions,
  GeneratedSequence,
  GenerateSequencesOptions,
  SequencesOption,
} from './generation/generate-search';
export { readGenerationConfig, writeGenerationConfig } from './generation/config';
export type { GenerationConfig } from './generation/config';
export { GenerationSession } from './generation/session';
export type { TokenLogprobs } from './generation/decoder';
export type { LogitsProcessor } from './generation/logits-processors';

// Text and training
export {
  charFromMetaPickle,
  charToMetaPickle,
  CharTokenizer,
  Gpt2Tokenizer,
  HuggingFaceTokenizer,
  loadTokenizer,
  tokenizerForText,
  tokenizerFromJson,
  trainTokenizer,
} from './tokenizers';
export type {
  ChatMessage,
  ChatTemplateOptions,
  ChatTemplates,
  Gpt2TokenizerOptions,
  HuggingFaceJson,
  EncodeWithOffsetsOptions,
  HuggingFaceTokenizerOptions,
  TokenEncoding,
  StreamDecoder,
  Tokenizer,
  TokenizerFields,
  TokenizerJson,
  TrainTokenizerOptions,
} from './tokenizers';
export {
  encodeDocuments,
  EpochWindows,
  prepareTokens,
  RandomWindows,
  TextStream,
  TokenFile,
  TokenStream,
  writeTokens,
} from './data';
export type {
  Batch,
  BatchSource,
  EpochPosition,
  EpochWindowsOptions,
  PrepareTokensOptions,
  RandomWindowsOptions,
  Separator,
  TextPieces,
  TextSource,
  TextStreamOptions,
  TokenDType,
  TokenFileOptions,
  Tokens,
  TokenSource,
  TokenStreamOptions,
  WriteTokensOptions,
} from './data';
export type {
  EvalEvent,
  EvaluateOptions,
  EvaluateResult,
  FitOptions,
  FitResult,
  GuardOptions,
  ResumeEvent,
  RollbackEvent,
  SaveErrorEvent,
  SaveEvent,
  StepEvent,
  TrainEvent,
} from './train';

// Checkpoints
export * from './checkpoint';
