import path from 'node:path';
import { expect, test } from 'vitest';
import * as torch from '../../lib/index';
import { camelCase } from '../../lib/tensor/operator';
import { pythonJson, pythonTimeout } from '../helpers/python';

/** Names of Python that are not here, by the reason: docs/tensors.md has them in a table. */
const ABSENT: readonly (readonly [reason: string, names: RegExp])[] = [
  [
    'compilers, tracing and their symbols',
    /^(compile|compiled_\w+|cond|while_loop|vmap|fork|wait|sym_\w+|import_ir_\w+|parse_\w+|merge_type_\w+|unify_type_list|boolean_dispatch|get_file_path|module_load|profiler_\w+)$/,
  ],
  [
    'overriding in Python',
    /^(handle_torch_function|has_torch_function\w*|assert_int_or_pair|as_subclass|classproperty)$/,
  ],
  ['processes of Python', /^(prepare_multiprocessing_\w+|is_shared|share_memory_|thread_safe_generator)$/],
  ['other accelerators', /^(is_(ipu|maia|mkldnn|mps|mtia|vulkan|xla|xpu)|ipu|mtia|xpu|record_stream)$/],
  [
    'memory as Python holds it',
    /^((untyped_)?storage|storage_type|is_storage|(const_)?data_ptr|from_dlpack|to_dlpack)$/,
  ],
  [
    'files and arrays: load, toTypedArray, fromTypedArray, asTensor',
    /^(from_file|from_numpy|frombuffer|asarray|numpy)$/,
  ],
  [
    'scopes take their place: autocast(), noGrad()',
    /^((set|get|is|clear)_autocast_\w+|autocast_(in|de)crement_nesting|(set|is)_anomaly_\w+|is_anomaly_check_nan_enabled)$/,
  ],
  [
    'settings of the process',
    /^(((set|get)_)?(default_device|deterministic_debug_mode|num_interop_threads)|is_deterministic_algorithms_\w+|set_(default_tensor_type|flush_denormal|printoptions|warn_always)|is_warn_always_enabled|init_num_threads|initial_seed|seed)$/,
  ],
  [
    'withdrawn or deprecated in Python',
    /^(eig|lstsq|lu|matrix_rank|solve|symeig|dsmm|hsmm|saddmm|spmm|volatile|reinforce|resize|resize_as|new|upsample\w*|grad_dtype)$/,
  ],
  [
    'kernels that others call: reached as operators',
    /^((cudnn|miopen|mkldnn|fbgemm|quantized)_\w+|batch_norm_\w+_(elemt|reduce|stats|counts)|batch_norm_(elemt|stats|gather_stats|update_stats)|choose_qparams_optimized|fused_moving_avg_obs_fake_quant)$/,
  ],
  ['loops in Python over elements', /^(apply_|map_|map2_)$/],
  ['randomized decompositions', /^(lobpcg|pca_lowrank|svd_lowrank)$/],
  [
    'other forms of what is here',
    /^((adaptive_)?max_pool\dd_with_indices|conv_tbc|native_channel_shuffle|type|typename|name|get_device|is_nested|to_sparse_coo|output_nr|dim_order)$/,
  ],
  [
    'rare, reached as operators',
    /^(fractional_max_pool\dd(_with_indices)?|grouped_mm|scaled_mm|scaled_grouped_mm|linear_cross_entropy|multi_head_attention_forward)$/,
  ],
];

const OURS: Readonly<Record<string, object>> = {
  torch,
  linalg: torch.linalg,
  fft: torch.fft,
  special: torch.special,
  'nn.functional': torch.nn.functional,
  Tensor: torch.Tensor.prototype,
};

test(
  'every public function and method of Python is here, or is known to be absent',
  async () => {
    const names = await pythonJson<Record<string, string[]>>(path.join(__dirname, 'python-names.py'), []);
    const missing: string[] = [];
    const absent = new Set<string>();
    for (const [module, list] of Object.entries(names)) {
      for (const name of list) {
        if (camelCase(name) in OURS[module]! || name in OURS[module]!) continue;
        absent.add(name);
        if (!ABSENT.some(([, pattern]) => pattern.test(name))) missing.push(`${module}.${name}`);
      }
    }
    expect(missing).toEqual([]);
    const unused = ABSENT.filter(([, pattern]) => ![...absent].some((name) => pattern.test(name)));
    expect(unused.map(([reason]) => reason)).toEqual([]);
    const count = Object.values(names).reduce((sum, list) => sum + list.length, 0);
    expect(count).toBeGreaterThan(1500);
    expect(absent.size).toBeLessThan(230);
  },
  pythonTimeout,
);
