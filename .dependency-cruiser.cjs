// Imports inside lib/ point down (docs/architecture.md, "Layers") and never in a circle. Type imports count: a reader follows
// them too. `npm run check` runs this.

/** From top to bottom. A file may import from its own layer and from those below. */
const LAYERS = [
  ['index'],
  ['cli'],
  ['gpt'],
  ['train'],
  ['checkpoint'],
  ['models', 'data', 'tokenizers'],
  ['nn', 'optim'],
  ['formats'],
  ['pickle', 'tensor'],
  ['versions'],
  ['native'],
  ['install'],
  ['lock'],
  ['errors', 'objects'],
];

/** The folders or files of these names directly in lib/. */
const inLib = (names) => `^lib/(${names.join('|')})(/|\\.ts$)`;

const downward = LAYERS.slice(1).map((names, i) => ({
  name: `${names.join('-')}-imports-downward`,
  severity: 'error',
  from: { path: inLib(names) },
  to: { path: inLib(LAYERS.slice(0, i + 1).flat()) },
}));

module.exports = {
  forbidden: [
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'every-file-has-a-layer',
      comment: 'A new folder of lib/ belongs into LAYERS.',
      severity: 'error',
      from: {},
      to: { path: '^lib/', pathNot: inLib(LAYERS.flat()) },
    },
    ...downward,
  ],
  options: {
    includeOnly: '^lib/',
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
  },
};
