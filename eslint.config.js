import js from '@eslint/js';
import { defineConfig, globalIgnores } from 'eslint/config';
import prettier from 'eslint-config-prettier';
import { importX } from 'eslint-plugin-import-x';
import jsdoc from 'eslint-plugin-jsdoc';
import n from 'eslint-plugin-n';
import tseslint from 'typescript-eslint';

export default defineConfig(
  globalIgnores(['.cache/', 'build/', 'dist/', 'coverage/', '**/*.cjs']),
  { linterOptions: { reportUnusedDisableDirectives: 'error', reportUnusedInlineConfigs: 'error' } },
  {
    files: ['**/*.ts'],
    extends: [
      js.configs.recommended,
      tseslint.configs.strictTypeChecked,
      tseslint.configs.stylisticTypeChecked,
      importX.flatConfigs.typescript,
    ],
    plugins: { 'import-x': importX, n, jsdoc },
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      // Asynchrony: the class of bug that kills daemons.
      '@typescript-eslint/no-floating-promises': [
        'error',
        { checkThenables: true, ignoreVoid: false },
      ],
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/return-await': ['error', 'always'],
      '@typescript-eslint/promise-function-async': 'error',
      'require-atomic-updates': 'error',
      'no-promise-executor-return': 'error',
      // Exhaustiveness and truth.
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: false, requireDefaultForNonUnion: true },
      ],
      '@typescript-eslint/strict-boolean-expressions': [
        'error',
        { allowNumber: false, allowString: false },
      ],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      eqeqeq: 'error',
      curly: 'error',
      '@typescript-eslint/naming-convention': [
        'error',
        {
          selector: 'default',
          format: ['camelCase'],
          leadingUnderscore: 'forbid',
          trailingUnderscore: 'forbid',
        },
        {
          selector: 'variable',
          modifiers: ['const', 'global'],
          format: ['camelCase', 'UPPER_CASE', 'PascalCase'],
        },
        {
          selector: 'parameter',
          modifiers: ['unused'],
          format: ['camelCase'],
          leadingUnderscore: 'allow',
        },
        { selector: 'import', format: ['camelCase', 'PascalCase'] },
        {
          selector: 'typeLike',
          format: ['PascalCase'],
          custom: { regex: '(^I[A-Z][a-z])|(Impl|Manager|Helper|Utils?)$', match: false },
        },
        { selector: ['objectLiteralProperty', 'typeProperty'], format: null },
      ],
      // API surface.
      '@typescript-eslint/explicit-module-boundary-types': 'error',
      '@typescript-eslint/consistent-type-imports': [
        'error',
        { fixStyle: 'separate-type-imports' },
      ],
      '@typescript-eslint/consistent-type-exports': 'error',
      '@typescript-eslint/prefer-readonly': 'error',
      '@typescript-eslint/no-deprecated': 'error',
      'import-x/no-default-export': 'error',
      'import-x/no-cycle': 'error',
      'import-x/no-extraneous-dependencies': 'error',
      'import-x/order': [
        'error',
        {
          groups: ['builtin', 'external', ['internal', 'parent', 'sibling', 'index']],
          'newlines-between': 'always',
          alphabetize: { order: 'asc' },
        },
      ],
      'n/prefer-node-protocol': 'error',
      // Boundaries of the process.
      'no-console': 'error',
      'n/no-process-exit': 'error',
      'n/no-process-env': 'error',
      'no-restricted-syntax': [
        'error',
        {
          selector: "ThrowStatement > NewExpression[callee.name='Error']",
          message: 'Throw a ComputeError subclass with a code (src/base/errors.ts).',
        },
        {
          selector:
            'CallExpression[callee.object.name=/^(log|logger)$/][callee.property.name=/^(trace|debug|info|warn|error|fatal)$/] > TemplateLiteral',
          message: 'Log messages are constants; put values in the merge object.',
        },
        {
          selector: "CallExpression[callee.object.name='Promise'][callee.property.name='race']",
          message: 'Use raceAbort()/withDeadline() from src/base: a bare race leaks its losers.',
        },
        {
          selector:
            "CallExpression[callee.property.name='catch'] > ArrowFunctionExpression[body.type='BlockStatement'][body.body.length=0]",
          message: 'A swallowed rejection must be logged or named in a comment.',
        },
      ],
      'no-warning-comments': ['error', { terms: ['fixme', 'xxx', 'hack'], location: 'start' }],
      // Comments.
      'jsdoc/require-jsdoc': [
        'error',
        {
          publicOnly: true,
          require: { ClassDeclaration: true, FunctionDeclaration: true },
          contexts: ['TSInterfaceDeclaration', 'TSTypeAliasDeclaration'],
        },
      ],
      'jsdoc/check-tag-names': [
        'error',
        { definedTags: ['internal', 'experimental', 'remarks', 'defaultValue'] },
      ],
      'jsdoc/no-types': 'error',
    },
  },
  { files: ['src/config/**'], rules: { 'n/no-process-env': 'off' } },
  {
    files: ['src/base/clock.ts', 'src/base/abort.ts'],
    rules: {
      'no-restricted-syntax': 'off',
    },
  },
  { files: ['src/cli/**'], rules: { 'no-console': 'off', 'n/no-process-exit': 'off' } },
  { files: ['src/workers/*-worker.ts'], rules: { 'import-x/no-default-export': 'off' } },
  {
    files: ['test/**/*.ts'],
    rules: {
      'jsdoc/require-jsdoc': 'off',
      'no-restricted-syntax': 'off',
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          checkThenables: true,
          allowForKnownSafeCalls: [
            { from: 'package', package: 'node:test', name: ['it', 'describe'] },
          ],
        },
      ],
    },
  },
  {
    files: ['test/**/*.ts'],
    rules: { 'n/no-process-env': 'off' },
  },
  {
    files: ['test/support/**/*.ts'],
    rules: { 'n/no-process-exit': 'off' },
  },
  {
    // A program for people beside the product: it reads its environment and ends its own processes.
    files: ['bench/**/*.ts', 'chaos/**/*.ts'],
    rules: { 'n/no-process-env': 'off', 'n/no-process-exit': 'off' },
  },
  {
    // Programs for people to read, write in a hurry and run: the terminal and the package by its name are theirs.
    files: ['examples/**/*.ts'],
    rules: { 'no-console': 'off' },
  },
  {
    files: ['**/*.js'],
    extends: [js.configs.recommended],
    languageOptions: { globals: { process: 'readonly' } },
  },
  {
    // Programs for people, run before anything is built: plain JavaScript, and the terminal is theirs.
    files: ['scripts/**/*.mjs'],
    extends: [js.configs.recommended],
    plugins: { n },
    languageOptions: {
      globals: {
        ...Object.fromEntries(
          ['process', 'console', 'performance', 'Buffer', 'URL', 'fetch', 'AbortSignal'].map(
            (name) => [name, 'readonly'],
          ),
        ),
        ...Object.fromEntries(
          ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'setImmediate'].map(
            (name) => [name, 'readonly'],
          ),
        ),
      },
    },
    rules: { eqeqeq: 'error', 'n/prefer-node-protocol': 'error' },
  },
  prettier,
  { rules: { curly: 'error' } },
);
