"""A guard before text becomes a decimal: Arrow's parser overflows *silently* on too many digits before the point
(seen in pyarrow 26: `58` as decimal(38,38) is 0.15…)."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def whole_digits_fit(texts: pa.Array, t: pa.DataType) -> bool:
    """Whether every text (or NULL) has no more digits before its point than the decimal type takes. Texts that are no plain
    numbers count as not fitting, so that the caller looks at them one by one."""
    whole = t.precision - t.scale
    if not pc.any(pc.match_substring(texts, "e", ignore_case=True), min_count=0).as_py():
        point = pc.find_substring(texts, ".")
        longest = pc.max(pc.if_else(pc.less(point, 0), pc.binary_length(texts), point)).as_py()
        if longest is None or longest <= whole:  # no need to look closer: digits, sign and all are fewer
            return True
    plain = rf"^[-+]?0*[0-9]{{0,{whole}}}(\.[0-9]*)?$"
    return bool(pc.all(pc.match_substring_regex(texts, plain), min_count=0).as_py())
