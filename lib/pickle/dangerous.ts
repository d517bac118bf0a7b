/**
 * Modules whose names in a pickle have no business in a checkpoint: they run programs, import code, reach the network
 * or take other functions to call. torchbind calls nothing, so that their names are as harmless here as any other; they
 * are refused all the same where unknown names are let through, as a file that has them was made to harm somebody.
 */
const packages = new Set([
  ...[
    'os',
    'posix',
    'nt',
    'sys',
    'subprocess',
    '_posixsubprocess',
    'pty',
    'commands',
    'platform',
    'shutil',
    'tempfile',
  ],
  ...[
    'builtins',
    '__builtin__',
    'importlib',
    'imp',
    'runpy',
    'pkgutil',
    'zipimport',
    'site',
    'code',
    'codeop',
    'types',
  ],
  ...['operator', 'functools', '_operator', '_functools', 'itertools', 'inspect', 'ctypes', '_ctypes', 'gc', 'atexit'],
  ...['pickle', '_pickle', 'cPickle', 'marshal', 'shelve', 'dill', 'cloudpickle', 'joblib', 'copyreg', 'copy_reg'],
  ...['socket', '_socket', 'ssl', 'http', 'httplib', 'urllib', 'urllib2', 'requests', 'aiohttp', 'ftplib', 'smtplib'],
  ...['telnetlib', 'poplib', 'imaplib', 'webbrowser', 'asyncio', 'multiprocessing', 'threading', 'signal', 'uuid'],
  ...[
    'pydoc',
    'pdb',
    'bdb',
    'trace',
    'timeit',
    'profile',
    'cProfile',
    'doctest',
    'unittest',
    'test',
    'idlelib',
    'lib2to3',
  ],
  ...['distutils', 'setuptools', 'pip', 'venv', 'ensurepip', 'pexpect', 'ptyprocess', 'nose', 'sqlite3', 'logging'],
]);

/** Whether a module is one of those, or in one. */
export function isDangerousModule(module: string): boolean {
  const [top = ''] = module.split('.', 1);
  return (
    packages.has(top) ||
    /^(torch\.(jit|hub|package|_inductor|utils|distributed)|numpy\.(f2py|testing|distutils))\b/.test(module)
  );
}
