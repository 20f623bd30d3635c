import { type DuckDBConnection, DuckDBScalarFunction, VARCHAR } from '@duckdb/node-api';
import { hashInput } from './input-rules.ts';

const NUMERIC = /INT|^(DOUBLE|FLOAT|DECIMAL)/;

/**
 * Give a connection `hashed(value)`: what a rule made of a value, so that it is found again by who knows it; null without a
 * key. It is computed here and not in SQL: whatever a macro or a setting holds, a query can read.
 * @param key the store's key at the moment, if it has one
 */
export async function registerHashed(
  connection: DuckDBConnection,
  key: () => string | undefined,
): Promise<void> {
  connection.registerScalarFunction(
    DuckDBScalarFunction.create({
      name: 'input_hash',
      parameterTypes: [VARCHAR, VARCHAR],
      returnType: VARCHAR,
      mainFunction: (_info, input, output) => {
        const held = key();
        const values = input.getColumnValues(0);
        const types = input.getColumnValues(1);
        for (const [row, value] of values.entries()) {
          const isKnown = held !== undefined && value !== null;
          const number = NUMERIC.test(String(types[row])) ? Number(value) : Number.NaN;
          // A number as a client gives it: 7, whatever type SQL read it as.
          const text = Number.isNaN(number) ? String(value) : number;
          output.setItem(row, isKnown ? hashInput(held, text) : null);
        }
        output.flush();
      },
    }),
  );
  await connection.run('CREATE OR REPLACE MACRO hashed(value) AS input_hash(value::VARCHAR, typeof(value))');
}
