// Imports inside lib/ point down (docs/architecture.md, "Layers") and never in a circle. Type imports count: a reader follows
// them too. `npm run check` runs this.

/**
 * From top to bottom. A file may import from its own layer and from those below. Finding and locking libtorch need the
 * loader first, so two files stand below their folders.
 */
const LAYERS = [
  ['index'],
  ['cli'],
  ['serve'],
  ['gpt'],
  ['export', 'hub'],
  ['train'],
  ['checkpoint'],
  ['compute'],
  ['generation'],
  ['models', 'data', 'tokenizers'],
  ['nn', 'optim'],
  ['formats'],
  ['distributed'],
  ['pickle', 'tensor'],
  ['versions'],
  ['native', 'workers'],
  ['install'],
  ['lock'],
  ['native/loader'],
  ['install/platform'],
  ['errors', 'home', 'objects', 'resume-download', 'status-line'],
];

/** What these names in lib/ stand for: files and folders, without the files that have a layer of their own. */
const inLib = (names) => ({
  path: `^lib/(${names.join('|')})(/|\\.ts$)`,
  pathNot: LAYERS.flat()
    .filter((name) => name.includes('/') && !names.includes(name))
    .map((name) => `^lib/${name}\\.ts$`),
});

const downward = LAYERS.slice(1).map((names, i) => ({
  name: `${names.join('-')}-imports-downward`,
  severity: 'error',
  from: inLib(names),
  to: inLib(LAYERS.slice(0, i + 1).flat()),
}));

module.exports = {
  forbidden: [
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'every-file-has-a-layer',
      comment: 'A new folder of lib/ belongs into LAYERS.',
      severity: 'error',
      from: {},
      to: { path: '^lib/', pathNot: inLib(LAYERS.flat()).path },
    },
    ...downward,
  ],
  options: {
    includeOnly: '^lib/',
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
  },
};
