/** Login managers: how a client is signed in. */
export { DefaultLoginManager } from './default-login-manager.ts';
export type { DefaultLoginOptions } from './default-login-manager.ts';
export type { LoginManager, LoginOptions } from './login-manager.ts';
export { StaticTokenLoginManager } from './static-token-login-manager.ts';
export { COMPUTE_SCOPE } from '../../protocol/rest.ts';
export { GROUPS_SCOPE, SEARCH_SCOPE } from '../../protocol/oauth.ts';
