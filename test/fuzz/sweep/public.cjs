// Every function, class and method that the package exports and that is not marked as internal, by name.
const { readdirSync, readFileSync } = require('node:fs');
const { join } = require('node:path');
const torch = require('../../../dist/index.js');
const generated = require('../../../dist/tensor/generated/functions.js');

const dist = join(__dirname, '../../../dist');

/** `Class#name` of members that TypeScript knows as private or protected, or that are marked @internal. */
function internalMembers() {
  const names = new Set();
  for (const file of readdirSync(dist, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.d.ts')) continue;
    let owner = '';
    let isMarked = false;
    for (const line of readFileSync(join(dist, file), 'utf8').split('\n')) {
      owner = /^(?:export )?declare (?:abstract )?class (\w+)/.exec(line)?.[1] ?? owner;
      if (line.includes('@internal')) isMarked = true;
      const member = /^ {4}((?:private |protected |static |abstract |readonly |get |set )*)(\w+)/.exec(line);
      if (member === null) continue;
      if (isMarked || /private|protected/.test(member[1])) names.add(`${owner}#${member[2]}`);
      isMarked = false;
    }
  }
  return names;
}

/** All functions of a module and of the namespaces in it. */
function functionsOf(space) {
  const values = Object.values(space);
  const inner = values.filter((value) => typeof value === 'object' && value !== null);
  return new Set([
    ...values.filter((value) => typeof value === 'function'),
    ...inner.flatMap((one) => [...functionsOf(one)]),
  ]);
}

const isClass = (value) => /^class\b/.test(Function.prototype.toString.call(value));

/** Names as in calls.cjs; `operators` are the functions and methods that are made from libtorch's schemas. */
function publicNames() {
  const internal = internalMembers();
  const isGenerated = functionsOf(generated);
  const byHand = [];
  const operators = [];
  const spaces = new Set([torch.ops]);
  const visit = (space, prefix) => {
    spaces.add(space);
    for (const [key, value] of Object.entries(space)) {
      const name = prefix + key;
      if (typeof value === 'function' && isGenerated.has(value)) operators.push([name, value]);
      else if (typeof value === 'function')
        byHand.push(name, ...(isClass(value) ? members(value, name, internal) : []));
      else if (typeof value === 'object' && value !== null && !Array.isArray(value) && !spaces.has(value))
        visit(value, `${name}.`);
    }
  };
  visit(torch, '');
  return { byHand, operators };
}

function members(cls, name, internal) {
  const own = (object, skipped) => Object.getOwnPropertyNames(object).filter((key) => !skipped.includes(key));
  const isPublic = (key) =>
    !internal.has(`${cls.name}#${key}`) && !internal.has(`${cls.name.replace(/^Custom/, '')}#${key}`);
  const statics = own(cls, ['length', 'name', 'prototype']).filter(isPublic);
  const methods = cls === torch.Tensor ? [] : own(cls.prototype, ['constructor']).filter(isPublic);
  return [...statics.map((key) => `${name}.${key}`), ...methods.map((key) => `${name}#${key}`)];
}

module.exports = { isClass, publicNames };
