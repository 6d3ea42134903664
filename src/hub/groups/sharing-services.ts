/** Everything about groups, sharing and discovery that the routes call, put together once for a hub. */
import type { Kysely } from 'kysely';

import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { SharedKind } from '../../protocol/sharing.ts';
import { EnvironmentRegistry } from '../containers/environment-registry.ts';
import type { HubDatabase } from '../db/schema.ts';
import { FunctionSearch } from '../search/function-search.ts';
import { AccessControl } from './access-control.ts';
import { GroupRegistry } from './group-registry.ts';
import { Memberships } from './memberships.ts';
import { SharingRegistry } from './sharing.ts';

/** Who remembers things that can be shared. */
export interface Forgetful {
  forget: (id: string) => void;
  forgetAll: () => void;
}

/** The parts. */
export interface SharingServices {
  readonly db: Kysely<HubDatabase>;
  readonly memberships: Memberships;
  readonly access: AccessControl;
  readonly groups: GroupRegistry;
  readonly registry: SharingRegistry;
  readonly search: FunctionSearch;
  readonly environments: EnvironmentRegistry;
  /** After a change that concerns any number of things. */
  readonly forgetAll: () => void;
}

/** Puts the parts together; `catalogues` are asked for only once something has changed. */
export function createSharingServices(
  parts: { readonly db: Kysely<HubDatabase>; readonly clock: Clock; readonly logger: Logger },
  access: AccessControl,
  catalogues: Readonly<Partial<Record<SharedKind, Forgetful>>>,
): SharingServices {
  const { db, logger } = parts;
  const { memberships } = access;
  return {
    db,
    memberships,
    access,
    groups: new GroupRegistry(db, memberships),
    registry: new SharingRegistry({
      db,
      access,
      logger,
      onChanged: (kind, id) => {
        catalogues[kind]?.forget(id);
      },
    }),
    search: new FunctionSearch(db, memberships),
    environments: new EnvironmentRegistry(db, access),
    forgetAll: () => {
      memberships.forget();
      for (const catalogue of Object.values(catalogues)) {
        catalogue.forgetAll();
      }
    },
  };
}

/** The decision that catalogues and sharing share. */
export function createAccessControl(db: Kysely<HubDatabase>, clock: Clock): AccessControl {
  return new AccessControl(db, new Memberships(db, clock));
}
