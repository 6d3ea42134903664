/** The person whom a command names. */
import { ConflictError } from '../../base/errors.ts';
import type { PeopleRegistry, Person } from '../../hub/auth/people.ts';

/** Finds somebody by id or username. @throws ConflictError PRECONDITION_FAILED when there is nobody. */
export async function knownPerson(people: PeopleRegistry, idOrUsername: string): Promise<Person> {
  const person = await people.find(idOrUsername);
  if (person === undefined) {
    throw new ConflictError(
      'PRECONDITION_FAILED',
      `there is no person with the id or username ${idOrUsername}; \`hub user list\` shows all.`,
    );
  }
  return person;
}
