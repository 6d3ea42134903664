/**
 * Whom we believe: the authorities that Node brings, and those of a file beside them. There is no way not to verify.
 *
 * The context is made once for a set of authorities, because a hundred and fifty certificates are parsed for it.
 */
import { createSecureContext, rootCertificates } from 'node:tls';
import type { SecureContext } from 'node:tls';

/** A process has one set; tests have some. */
const CONTEXTS_KEPT = 8;
const contexts = new Map<string, SecureContext>();

/** A context that trusts these authorities (PEM) too. */
export function trusting(ca: string): SecureContext {
  let context = contexts.get(ca);
  if (context === undefined) {
    context = createSecureContext({ ca: [...rootCertificates, ca] });
    contexts.set(ca, context);
    const [oldest] = contexts.keys();
    if (contexts.size > CONTEXTS_KEPT && oldest !== undefined) {
      contexts.delete(oldest);
    }
  }
  return context;
}

/** What a TLS connection is given to trust these authorities too; nothing when there are none. */
export function trustOptions(ca: string | undefined): { readonly secureContext?: SecureContext } {
  return ca === undefined ? {} : { secureContext: trusting(ca) };
}
