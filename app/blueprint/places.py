"""Where a statement of a schema's document stands in the blueprint."""

from __future__ import annotations


def in_blueprint(at: str) -> str:
    """Return the pointer into the blueprint that says what `at` says in the schema's document."""
    parts = at.split("/")
    match parts[1:]:
        case ["fields", place, "statistics", *rest]:
            return f"/columns/{place}" + _statistic(rest, "/marginal", "")
        case ["fields", place, "decimals"]:
            return f"/columns/{place}/decimals/value"
        case ["fields", *rest]:
            return "/".join(["/columns", *rest])
        case ["associations", place, "sign"]:
            return f"/dependence/{place}/sign/value"
        case ["associations", *rest]:
            return "/".join(["/dependence", *rest])
        case ["conditionals", place, "statistics", *rest]:
            here = f"/conditionals/{place}/statistics"
            return here + _statistic(rest, "", "")
        case ["rules", place]:
            return f"/rules/{place}/rule"
    return at


def _statistic(rest: list[str], marginal: str, missing: str) -> str:
    if not rest:
        return marginal
    name, *below = rest
    if name == "missing":
        return "/".join([f"{missing}/missing/value", *below])
    name = "family" if name == "distribution" else name
    return "/".join([f"{marginal}/{name}/value", *below])
