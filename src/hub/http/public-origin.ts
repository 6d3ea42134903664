/** Under which address the hub is known to whoever asks: the configured one, else the one that they dialled. */
import type { FastifyRequest } from 'fastify';

/** Every origin that is this hub. */
export function hubOrigins(publicUrl: string | undefined, request: FastifyRequest): string[] {
  const dialled = `${request.protocol}://${request.host}`;
  return [publicUrl ?? dialled, dialled].flatMap((url) =>
    URL.canParse(url) ? new URL(url).origin : [],
  );
}

/** Where the hub's own documents say that it is, without a slash at the end. */
export function publicOrigin(publicUrl: string | undefined, request: FastifyRequest): string {
  return publicUrl ?? `${request.protocol}://${request.host}`;
}
