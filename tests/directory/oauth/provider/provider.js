// The certified OpenID provider (npm oidc-provider) on loopback. Reads its order, one JSON object, from standard input:
// {port, jwks, algorithm, people, clients}; says "ready" when it listens, and then one line for each request: METHOD PATH.
import { readFileSync } from 'node:fs';

import Provider from 'oidc-provider';

const order = JSON.parse(readFileSync(0, 'utf8'));
const issuer = `http://127.0.0.1:${order.port}`;

// what tokens are for: by the resource that a client names (RFC 8707)
const kinds = {
  jwt: { accessTokenFormat: 'jwt', audience: 'smtp.example.org', accessTokenTTL: 3600 },
  opaque: { accessTokenFormat: 'opaque', audience: 'smtp.example.org', accessTokenTTL: 3600 },
  short: { accessTokenFormat: 'jwt', audience: 'smtp.example.org', accessTokenTTL: 1 },
  'short-opaque': { accessTokenFormat: 'opaque', audience: 'smtp.example.org', accessTokenTTL: 1 },
  other: { accessTokenFormat: 'jwt', audience: 'calendar.example.org', accessTokenTTL: 3600 },
  'other-opaque': { accessTokenFormat: 'opaque', audience: 'calendar.example.org', accessTokenTTL: 3600 },
};

const provider = new Provider(issuer, {
  jwks: order.jwks,
  clients: order.clients,
  clientDefaults: { id_token_signed_response_alg: order.algorithm },
  cookies: { keys: ['only for tests'] },
  claims: { openid: ['sub'], email: ['email', 'email_verified'] },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...order.people[id] }) }),
  extraTokenClaims: (_, token) => order.people[token.accountId] ?? {},
  clientBasedCORS: () => false,
  pkce: { required: () => false },
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({
        scope: 'smtp read',
        jwt: { sign: { alg: order.algorithm } },
        ...kinds[new URL(resource).pathname.slice(1)],
      }),
      useGrantedResource: () => true,
    },
  },
});

provider.use(async (ctx, next) => {
  process.stdout.write(`${ctx.method} ${ctx.path}\n`);
  await next();
});
provider.on('server_error', (_, error) => process.stderr.write(`${error.stack}\n`));
provider.listen(order.port, '127.0.0.1', () => process.stdout.write('ready\n'));
