/** Environment variables of client credentials, ours first, then those of Globus Compute and funcX: the first complete pair wins. */

/** Names of the variables of a pair. */
export interface CredentialVariables {
  readonly id: string;
  readonly secret: string;
  /** A name that the origin has given up. */
  readonly isLegacy: boolean;
}

/** The pairs, in the order in which they are looked for. */
export const CREDENTIAL_PAIRS: readonly CredentialVariables[] = [
  { id: 'OUTPOST_CLIENT_ID', secret: 'OUTPOST_CLIENT_SECRET', isLegacy: false },
  { id: 'GLOBUS_COMPUTE_CLIENT_ID', secret: 'GLOBUS_COMPUTE_CLIENT_SECRET', isLegacy: false },
  { id: 'FUNCX_SDK_CLIENT_ID', secret: 'FUNCX_SDK_CLIENT_SECRET', isLegacy: true },
];
