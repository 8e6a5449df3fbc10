// An OIDC issuer for tests in a browser: it shows a page with the persons who can sign in, and checks codes and PKCE as a
// real one does. `auth_age` of a person is how long ago, in seconds, they authenticated, unless `prompt=login` asks again. `node issuer.mjs PORT`; ISSUER_PEOPLE is an object: name to claims.
import { createHash, generateKeyPairSync, randomUUID, sign } from 'node:crypto';
import { createServer } from 'node:http';

export function startIssuer(port, people) {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const keys = { keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'one', use: 'sig', alg: 'RS256' }] };
  const codes = new Map();
  const base64url = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

  function idToken(issuer, code) {
    const now = Math.floor(Date.now() / 1000);
    const auth_time = now - (code.prompt === 'login' ? 0 : people[code.who].auth_age ?? 0);
    const own = { auth_time, iss: issuer, aud: code.client_id, nonce: code.nonce, iat: now, nbf: now - 10, exp: now + 3600 };
    const message = `${base64url({ alg: 'RS256', typ: 'JWT', kid: 'one' })}.${base64url({ ...own, ...people[code.who] })}`;
    return `${message}.${sign('sha256', Buffer.from(message), privateKey).toString('base64url')}`;
  }

  function token(issuer, form) {
    const code = codes.get(form.get('code'));
    codes.delete(form.get('code'));
    const challenge = createHash('sha256').update(form.get('code_verifier') ?? '').digest('base64url');
    const fits = code && code.challenge === challenge && code.redirect_uri === form.get('redirect_uri') && code.client_id === form.get('client_id');
    return fits ? [200, { id_token: idToken(issuer, code), token_type: 'Bearer', access_token: 'unused' }] : [400, { error: 'invalid_grant' }];
  }

  const server = createServer(async (request, response) => {
    const issuer = `http://${request.headers.host}`;
    const url = new URL(request.url, issuer);
    const json = (status, value) => response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    switch (url.pathname) {
      case '/.well-known/openid-configuration':
        return json(200, {
          issuer, jwks_uri: `${issuer}/keys`, authorization_endpoint: `${issuer}/authorize`, token_endpoint: `${issuer}/token`,
          authorization_response_iss_parameter_supported: true,
        });
      case '/keys':
        return json(200, keys);
      case '/authorize': {
        const links = Object.keys(people).map((who) => `<li><a href="/choose?${new URLSearchParams({ ...Object.fromEntries(url.searchParams), who })}">${who}</a>`);
        return response.writeHead(200, { 'content-type': 'text/html' }).end(`<!doctype html><title>Issuer</title><h1>Who are you?</h1><ul>${links.join('')}</ul>`);
      }
      case '/choose': {
        const fields = Object.fromEntries(url.searchParams);
        const code = randomUUID();
        codes.set(code, { ...fields, challenge: fields.code_challenge });
        const back = new URL(fields.redirect_uri);
        for (const [name, value] of Object.entries({ code, state: fields.state, iss: issuer })) back.searchParams.set(name, value);
        return response.writeHead(302, { location: back.href }).end();
      }
      case '/token': {
        const parts = [];
        for await (const part of request) parts.push(part);
        return json(...token(issuer, new URLSearchParams(Buffer.concat(parts).toString())));
      }
      default:
        return json(404, {});
    }
  });
  return new Promise((resolve) => server.listen(port, '127.0.0.1', () => resolve(server)));
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  await startIssuer(Number(process.argv[2]), JSON.parse(process.env.ISSUER_PEOPLE));
}
