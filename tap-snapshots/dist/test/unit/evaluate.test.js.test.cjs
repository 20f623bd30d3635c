/* IMPORTANT
 * This snapshot file is auto-generated, but designed for humans.
 * It should be checked into source control and tracked carefully.
 * Re-generate by setting TAP_SNAPSHOT=1 and running tests.
 * Make sure to inspect the output below.  Do not ignore changes!
 */
'use strict'
exports[`dist/test/unit/evaluate.test.js > TAP > help > evaluate --help 1`] = `
Usage: foreshade evaluate [options]

Score a forecaster on a recorded set: its error, its quantiles, what a forecast
costs

Options:
  --data <folder>      the set: dataset.json and series.csv.gz, series.csv or
                       series.parquet
  --metrics <names>    columns to forecast, by commas
  --horizon <steps>    steps forecast at each origin
  --windows <count>    the last so many horizons of each series, one after the
                       other
  --season <steps>     steps of a season: of MASE's scale, and of the seasonal
                       forecast
  --resample <step>    means of so many seconds (default: the set's own step),
                       or instructions
  --axis <axis>        what a step is counted in; instructions need --resample
                       (choices: "seconds", "instructions", default: "seconds")
  --model <name>       a trained model, NAME or NAME@VERSION (default: the one
                       that comes with the program)
  --models <folder>    where trained models are kept (default: the user's data
                       folder)
  --no-lstm            the model without its recurrent part
  --baseline <name>    a reference forecast instead of a model (choices:
                       "seasonal-naive", "last-value")
  --reference <names>  what stands beside it, by commas: seasonal-naive,
                       last-value, experts (default: seasonal-naive,last-value)
  --report <file>      write what was found as one HTML file
  --json               print exactly one JSON document on stdout
  -h, --help           display help for command

Examples:
  $ foreshade evaluate --data sets/web --metrics cpu_mhz,cpu_pct --horizon 48 --windows 18 --season 288 --baseline seasonal-naive
  $ foreshade evaluate --data sets/web --metrics cpu_mhz --resample 3600 --horizon 48 --windows 2 --season 24 --baseline last-value --json

`

exports[`dist/test/unit/evaluate.test.js > TAP > text for people, progress on a terminal > evaluate 1`] = `
forecaster   seasonal-naive
set          tiny: load of 2 series
windows      2 of 2 steps, 7 values scored
MAE          1
ND           0.2333 (0.2143 to 0.25)
MASE         0.75, median 0.75 (0.75 to 0.75)
CRPS         0.2333 (0.2143 to 0.25)
coverage     0.1: 0.3571  0.2: 0.3571  0.3: 0.3571  0.4: 0.3571  0.5: 0.3571  0.6: 0.3571  0.7: 0.3571  0.8: 0.3571  0.9: 0.3571
refresh      N us, one in a hundred above N us
infer        N us, one in a hundred above N us
took         N s
in brackets  90 % of 1000 draws of the series, with replacement

beside it     MAE      ND  MASE  its median    CRPS  CRPS above / this
last-value  1.429  0.3333  2.25        2.25  0.3333           0.5 to 1

hardest series  of the CRPS  its own
b                    57.1 %     0.25
a                    42.9 %   0.2143

`
