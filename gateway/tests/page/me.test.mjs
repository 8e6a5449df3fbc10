// Works with the page of one's own, in a browser. ME_URL is its listener, GATEWAY_URL the gateway's; CHROMIUM another browser.
// SHOTS names a folder for pictures.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';

// The packages stand outside the tree of the tests: NODE_PATH names their folder.
const require = createRequire(import.meta.url);
const { chromium } = require('playwright-core');

const base = process.env.ME_URL;
const gateway = process.env.GATEWAY_URL;
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const run = promisify(execFile);
let browser;

before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'],
  });
});
after(() => browser?.close());

// `bypassCSP` is only for axe, which must be put into the page; every other test runs under the page's own policy.
async function open({ width = 1100, scheme = 'light', bypassCSP = false, prepare } = {}) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: scheme, reducedMotion: 'reduce', bypassCSP });
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: new URL(base).origin });
  await prepare?.(context);
  const page = await context.newPage();
  const seen = { errors: [], hosts: new Set() };
  // Only this page's: the issuer's page has no icon.
  const own = (message) => message.location().url.startsWith(base) && ['error', 'warning'].includes(message.type());
  page.on('console', (message) => own(message) && seen.errors.push(message.text()));
  page.on('pageerror', (error) => seen.errors.push(String(error)));
  page.on('request', (request) => request.url().startsWith('data:') || seen.hosts.add(new URL(request.url()).host));
  await page.goto(new URL('me', base).href);
  const close = async () => {
    await context.unrouteAll({ behavior: 'ignoreErrors' });
    await context.close();
  };
  return { page, seen, close };
}

// Signs in at the issuer's own page.
async function signIn(page, name = 'Kim Park') {
  await page.getByRole('link', { name: 'Sign in' }).click();
  await page.getByRole('link', { name }).click();
  await page.locator('#who').waitFor({ state: 'visible' });
}

async function call(key, model = 'gpt-4o') {
  const answer = await fetch(`${gateway}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'api-key': key },
    body: JSON.stringify({ model, messages: [{ role: 'user', content: 'hi' }] }),
  });
  await answer.arrayBuffer();
  return answer.status;
}

// Tabs until the wanted element has the focus, as somebody without a mouse would.
async function tabTo(page, wanted, most = 200) {
  for (let presses = 0; presses < most; presses += 1) {
    await page.keyboard.press('Tab');
    if (await wanted.evaluate((shown) => shown === document.activeElement)) return;
  }
  assert.fail('not reached by Tab');
}

const card = (page, name) => page.locator('section.card').filter({ has: page.getByRole('heading', { name, exact: true }) });

async function makeKey(page, consumer, label) {
  await card(page, consumer).getByRole('button', { name: /^Make a key/ }).click();
  await page.locator('#make-label').fill(label);
  await page.locator('#ask-yes').click();
  await page.locator('#made').waitFor({ state: 'visible' });
  const key = await page.locator('#made-key').inputValue();
  await page.locator('#made-done').click();
  return key;
}

async function revokeKey(page, label) {
  await page.getByRole('button', { name: `Revoke ${label}` }).click();
  await page.locator('#ask-yes').click();
  await page.locator('#ask').waitFor({ state: 'hidden' });
}

test('by keyboard: sign in, make a key, call, revoke, and the call is refused', async () => {
  const { page, seen, close } = await open();
  await tabTo(page, page.locator('#sign-in'));
  await page.keyboard.press('Enter');
  await tabTo(page, page.getByRole('link', { name: 'Kim Park' }));
  await page.keyboard.press('Enter');
  await page.locator('#content').waitFor({ state: 'visible' });
  assert.equal(await page.locator('#who-name').textContent(), 'Kim Park');

  await tabTo(page, card(page, 'crm-bot').getByRole('button', { name: /^Make a key/ }));
  await page.keyboard.press('Enter');
  await page.keyboard.type('by keyboard');
  await page.keyboard.press('Enter');
  await page.locator('#made').waitFor({ state: 'visible' });
  const field = page.locator('#made-key');
  const key = await field.inputValue();
  assert.match(key, /^spw_/);
  // The button that copies has the focus; Escape doesn't lose the key.
  await page.keyboard.press('Enter');
  await page.locator('#made-said').getByText('Copied.').waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), key);
  await page.keyboard.press('Escape');
  assert.ok(await page.locator('#made').isVisible());
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.locator('#made').waitFor({ state: 'hidden' });
  await page.waitForFunction(() => document.querySelector('#made-key').value === '');
  assert.doesNotMatch(await page.content(), new RegExp(key), 'the key is gone from the page');
  assert.equal(await field.inputValue(), '');
  assert.equal(await call(key), 200);

  await tabTo(page, page.getByRole('button', { name: 'Revoke by keyboard' }));
  await page.keyboard.press('Enter');
  assert.match(await page.locator('#ask').textContent(), /used at this node/);
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.locator('#ask').waitFor({ state: 'hidden' });
  assert.equal(await call(key), 401);
  assert.match(await page.locator('#said-text').textContent(), /is revoked/);
  assert.deepEqual(seen.errors.filter((text) => !text.includes('401')), []);
  await close();
});

test('a key is rotated, and both work until the grace is over', async () => {
  const { page, close } = await open();
  await signIn(page);
  const old = await makeKey(page, 'crm-bot', 'to rotate');
  await page.getByRole('button', { name: 'Rotate to rotate' }).click();
  await page.locator('#ask-grace').selectOption('1h');
  await page.locator('#ask-yes').click();
  await page.locator('#made').waitFor({ state: 'visible' });
  const fresh = await page.locator('#made-key').inputValue();
  await page.locator('#made-done').click();
  assert.deepEqual([await call(old), await call(fresh)], [200, 200]);
  assert.equal(await card(page, 'crm-bot').getByText('replaced').count(), 1);
  for (let left = 2; left > 0; left -= 1) {
    await page.getByRole('button', { name: 'Revoke to rotate' }).first().click();
    await page.locator('#ask-yes').click();
    await page.locator('#ask').waitFor({ state: 'hidden' });
  }
  assert.deepEqual([await call(old), await call(fresh)], [401, 401]);
  await close();
});

test('what the server refuses is said in the dialog, and a full number in the card', async () => {
  const { page, close } = await open();
  await signIn(page);
  const reports = card(page, 'reports');
  await page.route('**/api/me/keys', (route) => route.fulfill({ status: 400, contentType: 'application/json', body: '{"error":{"message":"no <b>such</b> time"}}' }));
  await reports.getByRole('button', { name: /^Make a key/ }).click();
  await page.locator('#make-label').fill('x');
  await page.locator('#ask-yes').click();
  await page.locator('#ask-problem .sentence').waitFor();
  assert.equal(await page.locator('#ask-problem .sentence').textContent(), 'no <b>such</b> time');
  await page.locator('#ask-no').click();
  await page.unroute('**/api/me/keys');
  await makeKey(page, 'reports', 'the only one');
  await reports.getByText('Revoke one to make another.').waitFor();
  assert.equal(await reports.getByRole('button', { name: /^Make a key/ }).count(), 0);
  await revokeKey(page, 'the only one');
  await reports.getByText('One key is over').waitFor();
  await close();
});

test('the code that the page shows runs, with the clients that it names', async () => {
  const { page, close } = await open();
  await signIn(page);
  const key = await makeKey(page, 'crm-bot', 'snippets');
  const folder = process.env.SNIPPETS;
  const environment = { ...process.env, SPILLWAY_KEY: key, PYTHONDONTWRITEBYTECODE: '1' };
  // Node finds the package only beside the file.
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(require.resolve('openai').replace(/openai\/.*$/, 'openai'), join(folder, 'node_modules/openai'));
  const commands = {
    python: ['py', [process.env.PYTHON]],
    azure: ['py', [process.env.PYTHON]],
    langchain: ['py', [process.env.PYTHON]],
    node: ['mjs', [process.env.NODE]],
    curl: ['sh', ['sh']],
  };
  assert.equal(await page.locator('#use-export').textContent(), "export SPILLWAY_KEY='YOUR-KEY'");
  const clients = await page.locator('#use-tabs button').evaluateAll((tabs) => tabs.map((tab) => tab.id.replace('use-tab-', '')));
  assert.deepEqual(clients.toSorted(), Object.keys(commands).toSorted());
  for (const model of ['gpt-4o-mini', 'text-embedding-3-small']) {
    await page.locator('#use-model').selectOption(model);
    for (const client of clients) {
      await page.locator(`#use-tab-${client}`).click();
      const code = await page.locator('#use-code').textContent();
      const [suffix, [program, ...rest]] = commands[client];
      const file = join(folder, `${client}-${model}.${suffix}`);
      writeFileSync(file, code);
      const { stdout } = await run(program, [...rest, file], { env: environment, timeout: 60_000 });
      assert.ok(model.includes('embedding') ? /\d/.test(stdout) : stdout.trim().length > 3, `${client} ${model}: ${stdout}`);
    }
  }
  await page.reload();
  await card(page, 'crm-bot').locator('.by-model tbody tr').first().waitFor({ timeout: 30_000 });
  await close();
});

for (const scheme of ['light', 'dark']) {
  for (const width of [360, 1100]) {
    test(`axe finds nothing: ${scheme}, ${width} px`, async () => {
      const { page, close } = await open({ width, scheme, bypassCSP: true });
      const look = async (what) => {
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
        assert.deepEqual(violations.map(({ id, nodes }) => `${what}: ${id}: ${nodes.slice(0, 3).map((node) => `${node.target} ${node.failureSummary}`).join(' | ')}`), []);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.equal(wide, 0, `${what} scrolls sideways`);
      };
      await page.locator('#door').waitFor({ state: 'visible' });
      await look('signed out');
      await signIn(page);
      await page.locator('#content').waitFor({ state: 'visible' });
      for (const details of await page.locator('section.card details').all()) await details.evaluate((node) => { node.open = true; });
      await look('the page');
      if (process.env.SHOTS) await page.screenshot({ path: join(process.env.SHOTS, `me-${width}-${scheme}.png`), fullPage: true });
      await card(page, 'crm-bot').getByRole('button', { name: /^Make a key/ }).click();
      await look('a dialog');
      await close();
    });
  }
}

test('nothing of another origin, a strict policy, and nothing stored', async () => {
  const { page, seen, close } = await open();
  await signIn(page);
  await page.locator('#content').waitFor({ state: 'visible' });
  const hosts = [...seen.hosts].filter((host) => host.startsWith('localhost'));
  assert.deepEqual(hosts, [new URL(base).host]);
  assert.deepEqual(await page.evaluate(() => [Object.keys(sessionStorage), Object.keys(localStorage), document.cookie]), [[], [], ''], 'no script reads the session');
  const answer = await fetch(new URL('me', base));
  await answer.arrayBuffer();
  const policy = answer.headers.get('content-security-policy') ?? '';
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe-inline|unsafe-eval|\*/);
  await close();
});

test('names stay text', async () => {
  const evil = '<img src=x onerror=alert(1)>';
  const { page, close } = await open({
    prepare: (context) => context.route('**/api/me', async (route) => {
      const answer = await route.fetch();
      if (!answer.ok()) return route.fulfill({ response: answer });
      const me = await answer.json();
      me.person.name = evil;
      const [consumer] = me.consumers;
      Object.assign(consumer, { name: evil, group: evil, models: [evil] });
      consumer.keys = [{ id: evil, label: evil, hint: evil, owner: evil, models: [evil], source: 'issued', created: 1, not_before: null, expires: 4e9, revoked: null, replaced: false, last_use: null }];
      consumer.usage.days = [{ day: new Date().toISOString().slice(0, 10), model: evil, requests: 1, input_tokens: 1, output_tokens: 1, cost_usd: null }];
      return route.fulfill({ json: me });
    }),
  });
  await signIn(page);
  await page.locator('#content').waitFor({ state: 'visible' });
  assert.equal(await page.locator('img').count(), 0);
  assert.equal(await page.locator('#who-name').textContent(), evil);
  assert.equal(await page.locator('.keys .name').first().textContent(), evil);
  await close();
});

test('usage is said to be that of one node, and where that of all nodes is', async () => {
  for (const [allNodes, expected] of [[false, 'Used at this node.'], [true, 'Used at this node. For a report over all nodes ask the platform team (ai@contoso.example): spillway usage --all-nodes --consumer crm-bot']]) {
    const { page, close } = await open({
      prepare: (context) => context.route('**/api/me', async (route) => {
        const answer = await route.fetch();
        return answer.ok() ? route.fulfill({ json: { ...await answer.json(), all_nodes: allNodes } }) : route.fulfill({ response: answer });
      }),
    });
    await signIn(page);
    await page.locator('#content').waitFor({ state: 'visible' });
    assert.equal(await card(page, 'crm-bot').locator('.usage > p.quiet').textContent(), expected);
    assert.equal(await card(page, 'crm-bot').getByRole('columnheader', { name: 'Last used at this node' }).count() > 0, true);
    await close();
  }
});

test('somebody who owns nothing is told whom to ask', async () => {
  const { page, close } = await open();
  await signIn(page, 'Noor Ali');
  await page.locator('#nothing').waitFor({ state: 'visible' });
  assert.equal(await page.locator('#nothing-text').textContent(), 'Ask the platform team (ai@contoso.example).');
  assert.match(await page.locator('#nothing-code').textContent(), /owners = \["noor-subject"\]/);
  if (process.env.SHOTS) await page.screenshot({ path: join(process.env.SHOTS, 'me-nothing.png'), fullPage: true });
  await close();
});

test('after signing out nothing is left', async () => {
  const { page, close } = await open();
  await signIn(page);
  await page.locator('#content').waitFor({ state: 'visible' });
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.locator('#door').waitFor({ state: 'visible' });
  assert.equal(await page.locator('section.card').count(), 0);
  assert.equal(await page.evaluate(async () => (await fetch('api/me')).status), 401);
  await close();
});
