/**
 * What a name in a pickle is good for. torchbind calls nothing, so that every name is as harmless here as any other; but
 * a file is also read by Python, and whoever looks into one wants to know what it would do there.
 *
 * - `known`: PyTorch's, NumPy's or Python's own, of which torchbind makes data.
 * - `inert`: a class or function that torchbind does not know, as an honest program names it.
 * - `code`: honest programs name it too, but it runs code where Python unpickles the file.
 * - `attack-only`: runs programs, loads code, reaches the network or the like. No checkpoint has a use for it.
 */
export type Verdict = 'known' | 'inert' | 'code' | 'attack-only';

/** A verdict on a name that torchbind does not know, and the reason for it: `runs programs`. */
export interface NameVerdict {
  verdict: Exclude<Verdict, 'known'>;
  reason: string;
}

/** Packages and modules, everything in them included. */
const modules: readonly [verdict: 'code' | 'attack-only' | 'inert', reason: string, names: string][] = [
  [
    'attack-only',
    'runs programs or changes the operating system',
    'os posix nt subprocess _posixsubprocess pty popen2 commands sys platform shutil tempfile pexpect ptyprocess asyncio ' +
      'multiprocessing signal webbrowser antigravity _osx_support _aix_support _pyrepl nturl2path pipes atexit gc',
  ],
  [
    'attack-only',
    'runs code that the file brings along',
    'code codeop runpy marshal pdb bdb trace timeit profile cProfile doctest unittest test nose idlelib lib2to3 pydoc ' +
      'numpy.testing torch.utils.bottleneck torch._inductor torch._dynamo torch.fx.experimental torch.utils._config_module',
  ],
  [
    'attack-only',
    'loads code',
    'importlib imp pkgutil zipimport site ctypes _ctypes cffi pip ensurepip venv distutils setuptools numpy.f2py ' +
      'numpy.distutils torch.hub torch.package torch.ops torch.classes torch.utils.cpp_extension torch.utils.model_zoo',
  ],
  [
    'attack-only',
    'reaches the network',
    'socket _socket ssl http httplib urllib urllib2 urllib3 requests aiohttp ftplib smtplib telnetlib poplib imaplib ' +
      'xmlrpc nntplib socketserver torch.distributed.rpc torch.distributed.run torch.distributed.launch torch.distributed.elastic',
  ],
  ['attack-only', 'reads or writes files', 'io _io fileinput linecache sqlite3 dbm torch.utils.data.datapipes'],
  ['attack-only', 'reads another pickle, which may run anything', 'pickle _pickle cPickle shelve'],
  ['attack-only', 'runs programs', 'torch.utils.collect_env torch.utils.hipify torch.jit.unsupported_tensor_ops'],
  // TorchScript's own pickles name these.
  ['inert', "is of TorchScript's own pickles", 'torch.jit._pickle'],
  ['inert', 'describes tensors of a distributed checkpoint', 'torch.distributed'],
  ['inert', 'is of a data pipeline', 'torch.utils.data torch.utils._pytree torch.utils.hooks'],
  ['code', 'makes functions out of the file', 'dill cloudpickle joblib'],
  ['code', 'compiles or traces code', 'torch.jit torch.fx torch.utils'],
  ['code', 'calls what other names of the file stand for', 'functools _functools operator _operator itertools inspect'],
  ['code', 'makes functions, modules or loggers', 'types logging threading uuid'],
  ['code', "looks names up in Python's registries", 'copyreg copy_reg'],
];

/** Single names, which stand before their modules. */
const single: readonly [verdict: NameVerdict['verdict'], reason: string, names: string][] = [
  [
    'attack-only',
    'runs code or opens files',
    'builtins.eval builtins.exec builtins.execfile builtins.compile builtins.open builtins.file builtins.__import__ ' +
      'builtins.apply builtins.input builtins.raw_input builtins.breakpoint builtins.globals builtins.locals builtins.vars ' +
      'builtins.reload builtins.exit builtins.quit builtins.delattr types.CodeType types.FunctionType uuid._get_command_stdout ' +
      'logging.config._resolve',
  ],
  [
    'attack-only',
    'reads another pickle, which may run anything',
    'torch.load torch.serialization.load torch.storage._load_from_bytes torch.jit.load numpy.load numpy.lib.npyio.load ' +
      'pandas.read_pickle pandas.io.pickle.read_pickle joblib.load dill.loads dill.load cloudpickle.loads cloudpickle.load',
  ],
  [
    'inert',
    'is a plain value of Python',
    'builtins.slice builtins.range builtins.object builtins.Ellipsis builtins.NotImplemented builtins.type ' +
      'types.SimpleNamespace types.MappingProxyType uuid.UUID uuid.SafeUUID',
  ],
  ['inert', "makes a bare object, as Python's older protocols do", 'copyreg._reconstructor copyreg.__newobj__'],
];

const byName = table(single);
const byModule = table(modules);

function table(rows: typeof single): ReadonlyMap<string, NameVerdict> {
  return new Map(
    rows.flatMap(([verdict, reason, names]) =>
      names.split(' ').map((name): [string, NameVerdict] => [name, { verdict, reason }]),
    ),
  );
}

/** Judges a name that is not among those that torchbind knows. */
export function judgeName(module: string, name: string): NameVerdict {
  const home = module === '__builtin__' ? 'builtins' : module === 'copy_reg' ? 'copyreg' : module;
  const path = `${home}.${name}`;
  const named = byName.get(path);
  if (named !== undefined) return named;
  // Through an attribute of a module, as `torch` and `os.system`.
  const through = name.includes('.') ? byModule.get(name.split('.', 1)[0]!) : undefined;
  if (through?.verdict === 'attack-only') return through;
  // A dotted name, as `Grammar.loads`, and a module in a package: the longest known beginning counts.
  const parts = path.split('.', maxParts);
  for (let length = parts.length - 1; length > 0; length--) {
    const found = byModule.get(parts.slice(0, length).join('.'));
    if (found !== undefined) return found;
  }
  if (home === 'builtins' && !/(Error|Exception|Warning|Exit|Iteration|Interrupt)$/.test(name))
    return { verdict: 'code', reason: 'calls what other names of the file stand for' };
  return { verdict: 'inert', reason: 'is a class or function that torchbind does not know' };
}

/** No module of Python is nested deeper. */
const maxParts = 12;

/** The verdict on a name that is not in the pickle as text: it is computed, or looked up in a registry by number. */
export const hiddenName: NameVerdict = { verdict: 'attack-only', reason: 'hides its name' };
