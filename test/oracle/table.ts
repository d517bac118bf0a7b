/** The table of `docs/operators.md`. */
import { FORMS } from './replay';
import type { Outcome } from './replay';
import { knownDifference } from './known';

/** What `samples.py` prints. */
export interface Samples {
  files: string[];
  entries: { name: string; samples: number; leftOut: Record<string, number>; why?: string }[];
  versions: { torch: string; python: string };
}

const TITLES = { function: 'call', gradient: 'gradient', method: 'as a method', inPlace: 'in place' } as const;

const isEqual = (outcome: Outcome): boolean => outcome.problems.size === 0;

/** How many operators were covered and how many of them gave Python's results to the bit. */
export function totals(outcomes: ReadonlyMap<string, Outcome>): {
  operators: number;
  equal: number;
  calls: number;
  gradients: number;
} {
  const all = [...outcomes.values()];
  const sum = (count: (outcome: Outcome) => number): number => all.reduce((total, item) => total + count(item), 0);
  return {
    operators: all.length,
    equal: all.filter(isEqual).length,
    calls: sum(({ run }) => run.function + run.method + run.inPlace),
    gradients: sum(({ run }) => run.gradient),
  };
}

/** The page as Markdown. `where` tells the date and the machine's versions. */
export function page(samples: Samples, outcomes: ReadonlyMap<string, Outcome>, where: string): string {
  const { operators, equal, calls, gradients } = totals(outcomes);
  const missing = samples.entries.filter((entry) => entry.samples === 0);
  return [
    '# Operators compared with PyTorch',
    '',
    `Written by \`npm run oracle\` on ${where}.`,
    '',
    "PyTorch's own tests describe operators with sample inputs (OpInfo). Each sample runs in Python and in torchbind: as a",
    'function, and as a method and in place if PyTorch has those forms. It runs in float64, float32, a complex type, an integer',
    'type, a half-precision type and bool, as far as the operator supports them. Dtype, shape, strides and every bit of results',
    'and gradients must be equal. Random operators start from the same seed.',
    '',
    '| | |',
    '| --- | ---: |',
    `| entries of PyTorch's list | ${samples.entries.length} |`,
    `| covered | ${operators} |`,
    `| bit-identical | ${equal} |`,
    `| different, as listed below | ${operators - equal} |`,
    `| not covered | ${missing.length} |`,
    `| calls compared | ${calls} |`,
    `| gradients compared | ${gradients} |`,
    '',
    '## Differences',
    '',
    ...table(['operator', 'equal', 'why'], differing(outcomes)),
    '',
    '## Not covered',
    '',
    '`composite in Python`: the function is Python code that calls operators; libtorch has no operator for it.',
    '',
    ...notCovered(missing),
    '',
    '## Covered',
    '',
    'Number of samples with equal results, by form.',
    '',
    ...table(['operator', ...FORMS.map((form) => TITLES[form])], covered(outcomes)),
    '',
  ].join('\n');
}

function differing(outcomes: ReadonlyMap<string, Outcome>): string[][] {
  return [...outcomes]
    .filter(([, outcome]) => !isEqual(outcome))
    .map(([name, outcome]) => {
      const run = FORMS.reduce((total, form) => total + outcome.run[form], 0);
      const equal = FORMS.reduce((total, form) => total + outcome.equal[form], 0);
      const reasons = [...outcome.problems.keys()].map((problem) => knownDifference(name, problem) ?? problem);
      return [`\`${name}\``, `${equal} of ${run}`, [...new Set(reasons)].join('; ')];
    });
}

function notCovered(missing: Samples['entries']): string[] {
  const byReason = new Map<string, string[]>();
  for (const { name, why, leftOut } of missing) {
    const reason = Object.keys(leftOut)[0] ?? why ?? '';
    byReason.set(reason, [...(byReason.get(reason) ?? []), `\`${name}\``]);
  }
  const rows = [...byReason].map(([reason, names]) => [reason, String(names.length), names.join(', ')]);
  return table(['why', 'entries', 'which'], rows);
}

function covered(outcomes: ReadonlyMap<string, Outcome>): string[][] {
  return [...outcomes].map(([name, { run, equal }]) => [
    `\`${name}\``,
    ...FORMS.map((form) => {
      if (run[form] === 0) return '';
      return run[form] === equal[form] ? String(run[form]) : `${equal[form]} of ${run[form]}`;
    }),
  ]);
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)];
}
