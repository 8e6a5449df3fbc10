// Looks at the status page with a browser. STATUS_URL is a running gateway's admin address;
// STATUS_TOKEN its admin token, if it has one; CHROMIUM another browser.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';

// The packages stand outside the tree of the tests: NODE_PATH names their folder.
const require = createRequire(import.meta.url);
const { chromium } = require('playwright-core');

const base = process.env.STATUS_URL ?? 'http://127.0.0.1:9090/';
const token = process.env.STATUS_TOKEN;
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
let browser;

before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'],
  });
});
after(() => browser?.close());

// `bypassCSP` is only for axe, which must be put into the page; every other test runs under the page's own policy.
async function open({ width = 1280, scheme = 'light', motion = 'no-preference', bypassCSP = false, prepare } = {}) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: scheme, reducedMotion: motion, bypassCSP });
  await prepare?.(context);
  const page = await context.newPage();
  const seen = { errors: [], hosts: new Set() };
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && seen.errors.push(message.text()));
  page.on('pageerror', (error) => seen.errors.push(String(error)));
  page.on('request', (request) => request.url().startsWith('data:') || seen.hosts.add(new URL(request.url()).host));
  if (token) await page.addInitScript((value) => sessionStorage.setItem('spillway-admin-token', value), token);
  await page.goto(base);
  await page.locator('#content').waitFor({ state: 'visible' });
  await page.locator('tr.member').first().waitFor();
  // What `prepare` answers may still be under way: it ends with the page.
  const close = async () => {
    await context.unrouteAll({ behavior: 'ignoreErrors' });
    await context.close();
  };
  return { page, seen, close };
}

for (const scheme of ['light', 'dark']) {
  for (const width of [360, 1280]) {
    test(`axe finds nothing: ${scheme}, ${width} px`, async () => {
      const { page, close } = await open({ width, scheme, motion: 'reduce', bypassCSP: true });
      await page.waitForTimeout(2500);
      // Pools out of sight have a stand-in's size, which axe would measure.
      await page.addStyleTag({ content: '.pool { content-visibility: visible !important; }' });
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
      assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => `${node.target} ${node.failureSummary}`).join(' | ')}`), []);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(wide, 0, 'the page scrolls sideways');
      await close();
    });
  }
}

test('axe finds nothing in an open dialog', async () => {
  const { page, close } = await open({ scheme: 'dark', bypassCSP: true });
  await page.getByRole('button', { name: /^Drain / }).first().click();
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document.querySelector('dialog')));
  assert.deepEqual(violations.map(({ id }) => id), []);
  await close();
});

test('no errors, and no request to anywhere else', async () => {
  const { page, seen, close } = await open();
  await page.waitForTimeout(3500);
  assert.deepEqual(seen.errors, []);
  assert.deepEqual([...seen.hosts], [new URL(base).host]);
  assert.equal(await page.locator('#link-word').textContent(), 'live');
  await close();
});

test('a strict policy is sent', async () => {
  const { headers } = await fetch(base);
  const policy = headers.get('content-security-policy') ?? '';
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe-inline|unsafe-eval|\*/);
});

// Tabs until the wanted element has the focus, as somebody without a mouse would.
async function tabTo(page, wanted, most = 400) {
  for (let presses = 0; presses < most; presses += 1) {
    await page.keyboard.press('Tab');
    if (await wanted.evaluate((shown) => shown === document.activeElement)) return;
  }
  assert.fail('not reached by Tab');
}

// The first member is drained: the next tier gets what it got.
async function trafficMoves(page) {
  const served = () =>
    page.evaluate(async (token) => {
      const headers = token ? { authorization: `Bearer ${token}` } : {};
      const { tiers } = (await (await fetch('api/status', { headers })).json()).pools[0];
      const sum = (tier) => tier.members.reduce((all, member) => all + member.served_total, 0);
      return { first: sum(tiers[0]), second: sum(tiers[1]), inFlight: tiers[0].members[0].in_flight };
    }, token);
  const until = async (done) => {
    for (let tries = 0; tries < 100; tries += 1) {
      const now = await served();
      if (done(now)) return now;
      await page.waitForTimeout(100);
    }
    return assert.fail('the traffic does not move');
  };
  const before = await until(({ inFlight }) => inFlight === 0);
  const after = await until(({ second }) => second >= before.second + 10);
  assert.equal(after.first, before.first, 'a drained member is still asked');
}

test('drain and undrain by keyboard', async () => {
  const { page, seen, close } = await open();
  const row = page.locator('tr.member').first();
  const toggle = row.locator('button').first();
  const state = row.locator('.mark b');
  const node = await state.elementHandle();
  const becomes = (drained) => page.waitForFunction(([shown, wanted]) => (shown.textContent === 'drained') === wanted, [node, drained]);
  await tabTo(page, toggle);
  await page.keyboard.press('Enter');
  const dialog = page.getByRole('dialog');
  await dialog.waitFor();
  // Escape changes nothing and gives the focus back.
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
  assert.ok(await toggle.evaluate((shown) => shown === document.activeElement));
  assert.notEqual(await state.textContent(), 'drained');

  await page.keyboard.press('Enter');
  await dialog.waitFor();
  assert.match(await dialog.getByRole('heading').textContent(), /^Drain /);
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await dialog.waitFor({ state: 'hidden' });
  await becomes(true);
  assert.match(await page.locator('#said-text').textContent(), /is drained/);
  await trafficMoves(page);
  // Seconds of updates later the focus is still where it was.
  await page.waitForTimeout(2200);
  assert.ok(await toggle.evaluate((shown) => shown === document.activeElement));

  await page.keyboard.press('Enter');
  await dialog.waitFor();
  assert.match(await dialog.getByRole('heading').textContent(), /^Undrain /);
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await dialog.waitFor({ state: 'hidden' });
  await becomes(false);
  assert.deepEqual(seen.errors, []);
  await close();
});

test('an error is shown in the dialog', async () => {
  const { page, close } = await open();
  await page.route('**/api/reset*', (route) => route.fulfill({ status: 404, contentType: 'application/json', body: '{"error":{"message":"there is no <b>backend</b>"}}' }));
  await page.getByRole('button', { name: /^Reset / }).first().click();
  await page.locator('#ask-yes').click();
  await page.locator('#ask-problem .sentence').waitFor();
  assert.equal(await page.locator('#ask-problem .sentence').textContent(), 'there is no <b>backend</b>');
  assert.ok(await page.locator('#ask').evaluate((node) => node.open));
  await close();
});

test('a lost stream is said, and found again', async () => {
  let broken = true;
  let given = 0;
  const { page, close } = await open({
    // One event, then the end; after that nobody listens any more.
    prepare: (context) => context.route('**/api/events', async (route) => {
      if (!broken) return route.continue();
      if (given++) return route.abort('connectionrefused');
      const status = await route.fetch({ url: new URL('api/status', base).href });
      return route.fulfill({ contentType: 'text/event-stream', body: `: hello\n\nevent: status\r\ndata: ${await status.text()}\n\n` });
    }),
  });
  await page.locator('#stale').waitFor({ state: 'visible' });
  await page.locator('html[data-stale]').waitFor({ timeout: 15_000 });
  assert.match(await page.locator('#stale-text').textContent(), /^What you see is .* old\. The gateway can't be reached\.$/);
  broken = false;
  await page.getByRole('button', { name: 'Try now' }).click();
  await page.locator('#stale').waitFor({ state: 'hidden' });
  assert.equal(await page.locator('#link-word').textContent(), 'live');
  await close();
});

// The page under a status that this gateway doesn't have now.
function given(change) {
  return (context) => context.route('**/api/events', async (route) => {
    const status = await (await route.fetch({ url: new URL('api/status', base).href })).json();
    change(status);
    await route.fulfill({ contentType: 'text/event-stream', body: `event: status\ndata: ${JSON.stringify(status)}\n\n` });
  });
}

test('a listener that refuses the page says why', async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  const message = 'this listener accepts only an IP address';
  await page.route('**/api/**', (route) => route.fulfill({ status: 403, contentType: 'application/json', body: JSON.stringify({ error: { message } }) }));
  await page.goto(base);
  await page.locator('#stale-text').getByText(message).waitFor();
  assert.equal(await page.locator('#lock').isVisible(), false);
  await context.close();
});

test('names stay text', async () => {
  const evil = '<img src=x onerror=alert(1)>';
  const { page, close } = await open({
    prepare: given((status) => {
      status.node = evil;
      Object.assign(status.pools[0], { name: evil, models: [evil] });
      Object.assign(status.pools[0].tiers[0].members[0], { backend: evil, why: evil, state: evil });
      status.consumers = { since: 0, count: 1, rows: [{ consumer: evil, requests: 1, input_tokens: 1, output_tokens: 1, cost_usd: null }] };
      status.failovers = [{ at: 0, id: evil, consumer: evil, model: evil, pool: evil, moves: [{ backend: evil, deployment: evil, outcome: evil, status: 1 }], served_by: evil, status: 200 }];
      status.config.rejected = { at: 0, by: evil, reason: evil };
    }),
  });
  assert.equal(await page.locator('img').count(), 0);
  assert.equal(await page.locator('#config-reason').textContent(), evil);
  assert.equal(await page.locator('#consumers-rows td').last().textContent(), 'unknown');
  await close();
});

test('nothing to show is said, and stopping too', async () => {
  const { page, seen, close } = await open({
    prepare: given((status) => {
      Object.assign(status, { state: 'stopping', consumers: null, failovers: [] });
      Object.assign(status.config, { rejected: null, needs_restart: [] });
    }),
  });
  assert.match(await page.locator('#verdict').textContent(), /^Stopping: /);
  assert.match(await page.locator('#consumers-empty').textContent(), /no ledger/);
  for (const hidden of ['#consumers-search', '#config-rejected', '#config-restart', '#failovers-more']) assert.ok(await page.locator(hidden).isHidden(), hidden);
  assert.ok(await page.locator('#failovers-empty').isVisible());
  assert.deepEqual(seen.errors, []);
  await close();
});

test('the table sorts by its headings', async () => {
  const { page, close } = await open();
  const head = page.locator('#consumers-head th').first();
  if (await head.isHidden()) return close();
  await head.getByRole('button').click();
  assert.equal(await head.getAttribute('aria-sort'), 'ascending');
  const shown = await page.locator('#consumers-rows th').allTextContents();
  assert.deepEqual(shown, [...shown].sort(new Intl.Collator('en', { numeric: true }).compare));
  await close();
});

// Ten thousand users, as /api/limits answers about them.
function manyLimits(url) {
  const search = (new URL(url).searchParams.get('search') ?? '').toLowerCase();
  const most = Number(new URL(url).searchParams.get('rows'));
  const all = Array.from({ length: 10_000 }, (_, number) => ({
    scope: `consumer 'user-${number}@example.com'`, parent: "group 'research'", shadow: number === 3, limit: number % 2 ? 'token_quota' : 'budget',
    period: number % 2 ? 'day' : 'month', time_zone: 'UTC', amount: 200_000, used: Math.max(0, 240_000 - number * 1000),
    left: Math.min(200_000, Math.max(0, number * 1000 - 40_000)), share: Math.max(0, 240 - number) / 200, kept_for_others: number === 60 ? 5000 : 0,
    guaranteed: number % 10 ? null : 40_000, starts_again: new Date(Date.now() + 9 * 3600_000).toISOString(),
  })).filter(({ scope }) => scope.includes(search));
  return { count: all.length, rows: all.slice(0, most) };
}

const many = (context) => context.route('**/api/limits?*', (route) => route.fulfill({ json: manyLimits(route.request().url()) }));

test('limits: what is left and guaranteed, of the gateway itself', async () => {
  const { page, seen, close } = await open();
  await page.locator('#limits-rows tr').first().waitFor();
  const rows = await page.locator('#limits-rows tr').evaluateAll((rows) => rows.map((row) => [...row.children].map((cell) => cell.innerText.replace(/\s+/g, ' ').trim())));
  const of = (whose, limit) => rows.find(([name, what]) => name.startsWith(whose) && what.includes(limit));
  assert.deepEqual(of("group 'acme'", 'tokens per minute'), ["group 'acme'", '400,000 tokens per minute', '0 (0 %)', '400,000 of it 80,000 for guarantees below', '–']);
  assert.match(of("group 'acme'", 'budget')[1], /^\$5,000\.00 budget per month starts again in \d+/);
  assert.equal(of("group 'acme'", 'budget')[3], '$5,000.00 of it $1,000.00 for guarantees below');
  assert.match(of("group 'search'", 'request quota')[0], /in group 'acme'$/);
  const pool = of("pool 'chat'", 'requests per minute');
  assert.match(pool[0], /only counted, refuses nothing/);
  assert.equal(rows.findIndex(([name]) => name === pool[0]), 0, 'the one that is used comes first');
  assert.deepEqual(seen.errors, []);
  await close();
});

for (const scheme of ['light', 'dark']) {
  for (const width of [420, 1100]) {
    test(`limits of ten thousand users: axe finds nothing, and nothing moves: ${scheme}, ${width} px`, async () => {
      const { page, close } = await open({ width, scheme, motion: 'reduce', bypassCSP: true, prepare: many });
      const heading = (name) => page.getByRole('heading', { name, exact: true }).evaluate((node) => node.getBoundingClientRect().top + scrollY);
      await page.locator('#limits-rows tr').nth(24).waitFor();
      assert.equal(await page.locator('#limits-rows tr').count(), 25);
      assert.match(await page.locator('#limits-count').innerText(), /^25 of 10,000, the fullest first$/);
      // From the heading above: what is further up lives, and a word of it may take another line.
      const places = async () => {
        const top = await heading('Consumers');
        return [await heading('Limits') - top, await heading('Config') - top];
      };
      await page.locator('#limits').scrollIntoViewIfNeeded();
      await page.addStyleTag({ content: '.pool { content-visibility: visible !important; }' });
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => globalThis.axe.run(document.querySelector('#limits'), { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
      assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes[0].failureSummary}`), []);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), 0, 'the page scrolls sideways');
      if (process.env.SHOTS) await page.locator('#limits').screenshot({ path: `${process.env.SHOTS}/limits-${scheme}-${width}.png` });
      // With all pools drawn: one that isn't has an estimated height.
      const before = await places();
      await page.locator('#limit').fill('user-77@');
      await page.getByText('1 limit, with “user-77@” in the name').waitFor();
      assert.equal(await page.locator('#limits-rows tr').count(), 1);
      await page.locator('#limit').fill('nobody at all');
      await page.getByText('Nobody with “nobody at all” in their name has a limit.').waitFor();
      assert.deepEqual(await places(), before);
      await close();
    });
  }
}

test('the token is asked for, kept for the session only, and forgotten', { skip: !token }, async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(base);
  await page.locator('#token').fill('wrong');
  await page.keyboard.press('Enter');
  await page.getByText('The gateway refused this token.').waitFor();
  await page.locator('#token').fill(token);
  await page.keyboard.press('Enter');
  await page.locator('#content').waitFor({ state: 'visible' });
  const stored = () => page.evaluate(() => [Object.values(sessionStorage), Object.keys(localStorage), document.cookie]);
  assert.deepEqual(await stored(), [[token], [], '']);
  await page.getByRole('button', { name: 'Forget token' }).click();
  await page.locator('#token').waitFor();
  assert.deepEqual(await stored(), [[], [], '']);
  await context.close();
});
