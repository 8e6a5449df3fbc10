// Signs in at a running gateway with a browser. STATUS_URL is its admin address as server.sign_in.url has it; its issuer is
// issuer.mjs on another site. SHOTS is a folder for screenshots, if they are wanted.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';

const require = createRequire(import.meta.url);
const { chromium } = require('playwright-core');

const base = process.env.STATUS_URL;
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
let browser;

before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--host-resolver-rules=MAP gateway.test 127.0.0.1'],
  });
});
after(() => browser?.close());

async function open({ width = 1100, scheme = 'light', bypassCSP = false } = {}) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: scheme, reducedMotion: 'reduce', bypassCSP });
  const page = await context.newPage();
  const errors = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && !/status of 40[13]/.test(message.text()) && errors.push(message.text()));
  await page.goto(base);
  return { context, page, errors, close: () => context.close() };
}

async function signIn(page, who) {
  await page.getByRole('link', { name: 'Sign in' }).click();
  await page.getByRole('link', { name: who }).click();
}

async function shot(page, name) {
  if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/${name}.png`, fullPage: false });
}

async function violations(page) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => `${node.target} ${node.failureSummary}`).join(' | ')}`);
}

for (const scheme of ['light', 'dark']) {
  for (const width of [420, 1100]) {
    test(`axe finds nothing where somebody signs in, is signed in, and has no role: ${scheme}, ${width} px`, async () => {
      const { page, close } = await open({ width, scheme, bypassCSP: true });
      const sideways = () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      await page.locator('#sign-in').waitFor();
      assert.deepEqual([await violations(page), await sideways()], [[], 0]);
      await shot(page, `sign-in-${scheme}-${width}`);
      await signIn(page, 'nobody');
      await page.getByRole('heading', { name: 'You have no role here' }).waitFor();
      assert.deepEqual([await violations(page), await sideways()], [[], 0]);
      await shot(page, `no-role-${scheme}-${width}`);
      await page.getByRole('link', { name: 'Sign in again' }).click();
      await page.getByRole('link', { name: 'ada' }).click();
      await page.locator('tr.member').first().waitFor();
      await page.waitForTimeout(1500);
      await page.addStyleTag({ content: '.pool { content-visibility: visible !important; }' });
      assert.deepEqual([await violations(page), await sideways()], [[], 0]);
      await shot(page, `signed-in-${scheme}-${width}`);
      await page.getByRole('button', { name: 'Sign out' }).click();
      await page.locator('#sign-in').waitFor();
      await signIn(page, 'mia');
      await page.getByRole('heading', { name: "This page isn't for your role" }).waitFor();
      assert.deepEqual([await violations(page), await sideways()], [[], 0]);
      await shot(page, `member-${scheme}-${width}`);
      await close();
    });
  }
}

test('an operator signs in by keyboard, drains, and signs out', async () => {
  const { context, page, errors, close } = await open();
  await page.locator('#sign-in').waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'sign-in', 'Enter signs in');
  await page.keyboard.press('Enter');
  await page.getByRole('link', { name: 'ada' }).click();
  await page.locator('tr.member').first().waitFor();
  assert.equal(page.url(), base, 'neither code nor state stays in the address');
  assert.equal((await page.locator('#who').innerText()).replace(/\s+/g, ' '), 'Signed in as Ada Lovelace operator');
  const cookies = await context.cookies();
  assert.deepEqual(cookies.map(({ name, secure, httpOnly, sameSite, path }) => ({ name, secure, httpOnly, sameSite, path })), [
    { name: '__Host-spillway', secure: true, httpOnly: true, sameSite: 'Lax', path: '/' },
  ]);
  assert.deepEqual(await page.evaluate(() => [document.cookie, Object.keys(sessionStorage), Object.keys(localStorage)]), ['', [], []]);
  await page.getByRole('button', { name: 'Drain payg-france' }).click();
  await page.locator('#ask-yes').click();
  await page.getByText('is drained: it takes no new requests').waitFor();
  await page.getByRole('button', { name: 'Undrain payg-france' }).click();
  await page.locator('#ask-yes').click();
  await page.getByText('is back in traffic').waitFor();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.locator('#sign-in').waitFor();
  assert.deepEqual(await context.cookies(), []);
  assert.equal(await page.locator('#content').isVisible(), false);
  assert.deepEqual(errors, []);
  await close();
});

for (const scheme of ['light', 'dark']) {
  test(`who signed in too long ago shows again who they are, and the change is asked for once more: ${scheme}`, async () => {
    const { page, errors, close } = await open({ width: scheme === 'light' ? 420 : 1100, scheme, bypassCSP: true });
    await signIn(page, 'olga');
    await page.locator('tr.member').first().waitFor();
    await page.getByRole('button', { name: 'Drain payg-france' }).click();
    await page.locator('#ask-yes').click();
    const again = page.locator('#ask').getByRole('link', { name: 'Sign in again' });
    await again.waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Sign in again');
    assert.deepEqual(await violations(page), []);
    await shot(page, `not-fresh-${scheme}`);
    // Who decides against it is asked nothing later.
    await page.locator('#ask-no').click();
    await page.reload();
    await page.locator('tr.member').first().waitFor();
    assert.equal(await page.locator('#ask').isVisible(), false);
    await page.getByRole('button', { name: 'Drain payg-france' }).click();
    await page.locator('#ask-yes').click();
    await again.click();
    await page.getByRole('link', { name: 'olga' }).click();
    await page.getByRole('heading', { name: 'Drain payg-france' }).waitFor();
    assert.equal(page.url(), base);
    await page.locator('#ask-yes').click();
    await page.getByText('is drained: it takes no new requests').waitFor();
    assert.deepEqual(await page.evaluate(() => Object.keys(sessionStorage)), []);
    await page.getByRole('button', { name: 'Undrain payg-france' }).click();
    await page.locator('#ask-yes').click();
    await page.getByText('is back in traffic').waitFor();
    assert.deepEqual(errors, []);
    await close();
  });
}

test('a viewer is offered no change', async () => {
  const { page, close } = await open();
  await signIn(page, 'vera');
  await page.locator('tr.member').first().waitFor();
  assert.equal(await page.getByRole('button', { name: /Drain|Reset|Reload/ }).count(), 0);
  assert.equal(await page.getByRole('columnheader', { name: 'Actions' }).count(), 0);
  await close();
});

test('a page of another site can neither use the session nor plant one', async () => {
  const { context, page, close } = await open();
  await signIn(page, 'ada');
  await page.locator('tr.member').first().waitFor();
  // The issuer's site stands for any other one.
  const other = await context.newPage();
  await page.getByRole('button', { name: 'Sign out' }).waitFor();
  const issuer = new URL(process.env.ISSUER_URL);
  await other.goto(new URL('/authorize', issuer).href);
  const tried = await other.evaluate(async (target) => {
    const attempt = (options) => fetch(`${target}api/drain?backend=payg-france`, { method: 'POST', credentials: 'include', ...options }).then((answer) => answer.status, () => 'blocked');
    return [await attempt({ mode: 'no-cors' }), await attempt({ headers: { 'x-spillway-admin': '1', 'x-spillway-csrf': 'x' } })];
  }, base);
  // Not even an opaque answer: it says that no other page may use it.
  assert.deepEqual(tried, ['blocked', 'blocked']);
  await other.setContent(`<form method="post" action="${base}api/drain?backend=payg-france"><button>Go</button></form>`);
  await other.getByRole('button').click();
  await other.getByText('refused').waitFor();
  assert.equal(await page.getByRole('button', { name: 'Drain payg-france' }).count(), 1, 'nothing was drained');
  await close();
});

test('without TLS the browser keeps the cookies on loopback and nowhere else', async () => {
  const { port } = new URL(base);
  for (const [host, kept] of [['localhost', 1], ['127.0.0.1', 1], ['gateway.test', 0]]) {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`http://${host}:${port}/sign-in`);
    await page.getByRole('heading', { name: 'Who are you?' }).waitFor();
    const cookies = await context.cookies();
    assert.equal(cookies.filter(({ name }) => name === '__Host-spillway-sign-in').length, kept, host);
    await context.close();
  }
});

test('a session that has ended says so, and the way back in is there', async () => {
  const { context, page, close } = await open();
  await signIn(page, 'ada');
  await page.locator('tr.member').first().waitFor();
  const same = await context.newPage();
  await same.goto(base);
  await same.getByRole('button', { name: 'Sign out' }).click();
  await same.locator('#sign-in').waitFor();
  await page.getByText('Your session has ended. Sign in again.').waitFor();
  assert.equal(await page.locator('#content').isVisible(), false);
  await close();
});
