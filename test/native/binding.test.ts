/** lib/native/binding.ts types what the addon exports: both name the same functions. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';
import { expect, test } from 'vitest';
import { native } from '../../lib/native/native';
import { repositoryRoot } from '../helpers/python';

function declared(): string[] {
  const file = path.join(repositoryRoot, 'lib/native/binding.ts');
  const source = ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.ES2022);
  const binding = source.statements.find(
    (statement) => ts.isInterfaceDeclaration(statement) && statement.name.text === 'Binding',
  ) as ts.InterfaceDeclaration;
  return binding.members.map((member) => (member.name as ts.Identifier).text);
}

test('every function that is declared is exported by the addon, and every exported one is declared', () => {
  const exported = Object.keys(native());
  expect(exported.length).toBeGreaterThan(0);
  expect(exported.sort()).toEqual(declared().sort());
});

test('what is exported are functions', () => {
  const others = Object.entries(native()).filter(([, value]) => typeof value !== 'function');
  expect(others).toEqual([]);
});
