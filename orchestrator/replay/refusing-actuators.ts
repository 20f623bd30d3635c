import { AllocatorError } from '../core/errors.ts';
import { ACTUATED, type Actuated, type Actuator } from '../core/ports.ts';

/** Actuators of guests that are only a record: every call is refused, and counted, for in shadow mode none may come. */
export class RefusingActuators {
  #calls = 0;
  readonly byResource = Object.fromEntries(
    ACTUATED.map((resource) => [resource, this.#refusing(resource)]),
  ) as Readonly<Record<Actuated, Actuator>>;

  get calls(): number {
    return this.#calls;
  }

  #refusing(resource: Actuated): Actuator {
    const refuse = async (): Promise<never> => {
      this.#calls += 1;
      throw new AllocatorError('ACTUATION_REFUSED', 'What is played back cannot be changed', { resource });
    };
    return { resource, apply: refuse, restore: refuse, read: refuse };
  }
}
