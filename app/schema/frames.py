"""How a table is held in memory, and on its way to Arrow: one dtype per kind of field, everywhere.

| field | pandas dtype | Arrow type |
|---|---|---|
| integer, year (no levels, or integer levels) | `Int64` | int64 |
| number (also with levels) | `float64`, missing is NaN | double |
| boolean | `boolean` | bool |
| string with levels | `CategoricalDtype(levels, ordered)` | dictionary(int32, string) |
| string without levels (text, id) | `string[pyarrow]` | string |
| date | `datetime64[s]` | date32 |
| datetime | `datetime64[us]`, UTC where a zone was given | timestamp[us] |
| time | `timedelta64[s]` since midnight | time32[s] |
"""
