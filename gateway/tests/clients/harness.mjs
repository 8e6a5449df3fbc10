// Starts a program of these tests that runs a gateway and says in one line where.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** The words of its line, and how to end it. */
export async function start(program) {
  const harness = spawn(process.env.PYTHON ?? 'python3', [new URL(program, import.meta.url).pathname], { stdio: ['pipe', 'pipe', 'inherit'] });
  // A whole line: an unbuffered Python writes its parts one by one.
  const line = await new Promise((resolve, reject) => {
    createInterface({ input: harness.stdout }).once('line', resolve);
    harness.once('exit', () => reject(new Error('the gateway did not start')));
  });
  const stop = async () => {
    harness.stdin.end();
    await new Promise((resolve) => harness.once('exit', resolve));
  };
  return [line.trim().split(' '), stop];
}
