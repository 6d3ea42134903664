/** Every migration by name; they are applied in the order of their names and never edited once released. */
import type { Migration } from 'kysely';

import { up as initial } from './0001-initial.ts';
import { up as hubLiveness } from './0002-hub-liveness.ts';
import { up as taskFate } from './0003-task-fate.ts';
import { up as people } from './0004-people.ts';
import { up as groupsAndSharing } from './0005-groups-and-sharing.ts';
import { up as blobs } from './0007-blobs.ts';
import { up as brokerEpochs } from './0008-broker-epochs.ts';

/** Migrations in order. */
export const MIGRATIONS: Readonly<Record<string, Migration>> = {
  '0001-initial': { up: initial },
  '0002-hub-liveness': { up: hubLiveness },
  '0003-task-fate': { up: taskFate },
  '0004-people': { up: people },
  '0005-groups-and-sharing': { up: groupsAndSharing },
  '0007-blobs': { up: blobs },
  '0008-broker-epochs': { up: brokerEpochs },
};
