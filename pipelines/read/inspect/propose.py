"""A mapping for columns that nobody has explained: a proposal, with marks where it cannot know."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.read.inspect.fields import Field
from pipelines.read.mapping.spec import Value
from pipelines.read.mapping.times import as_time

__all__ = ["Proposal", "propose"]

_NAMES: dict[str, tuple[str, ...]] = {
    "event_id": ("eventid", "uuid", "messageid", "id", "logid", "hitid"),
    "user_id": (
        "userid", "user", "uid", "visitorid", "customerid", "customer", "memberid", "accountid",
        "clientid", "personid", "distinctid", "userpseudoid", "anonymousid", "deviceid",
        "reviewerid", "username", "who", "whoid", "u", "sessionid", "session",
    ),
    "item_id": (
        "itemid", "item", "productid", "product", "sku", "articleid", "videoid", "movieid",
        "trackid", "songid", "contentid", "bookid", "newsid", "postid", "listingid", "offerid",
        "asin", "parentasin", "aid", "isbn", "url", "page", "path", "title", "i",
    ),
    "event_type": (
        "eventtype", "event", "eventname", "action", "actiontype", "behavior", "behaviortype",
        "interaction", "interactiontype", "feedbacktype", "activity", "type", "kind",
    ),
    "event_time": (
        "eventtime", "timestamp", "eventtimestamp", "time", "ts", "datetime", "createdat",
        "occurredat", "timems", "unixtime", "date", "at", "created", "servertime",
    ),
    "dwell_ms": (
        "dwellms", "dwell", "dwelltime", "timespent", "readtime", "playtime", "playtimems",
        "playduration", "watchtime", "duration", "durationms", "engagementtime",
    ),
    "value": ("rating", "stars", "score", "price", "value", "amount", "revenue", "eventvalue"),
    "session_id": ("sessionid", "usersession", "session", "visitid", "gasessionid"),
    "platform": ("platform", "devicetype", "device", "channel", "os"),
}  # fmt: skip
_WORDS: dict[str, tuple[str, ...]] = {
    "impression": ("impression", "impressions", "shown", "show", "exposure"),
    "view": ("view", "views", "pv", "pageview", "page_view", "viewed", "read", "play", "watch",
             "detail", "view_item", "product viewed", "listen", "visit", "open"),
    "click": ("click", "clicks", "clicked", "tap", "select_item"),
    "like": ("like", "likes", "liked", "fav", "favorite", "favourite", "star", "upvote", "save",
             "bookmark", "wishlist", "add_to_wishlist"),
    "dislike": ("dislike", "hate", "downvote", "hide"),
    "share": ("share", "shared", "repost", "forward"),
    "cart": ("cart", "carts", "addtocart", "add_to_cart", "add to cart", "basket",
             "product added"),
    "purchase": ("purchase", "purchases", "buy", "bought", "order", "orders", "transaction",
                 "order completed", "checkout", "paid", "sale"),
    "rating": ("rating", "rate", "rated", "review"),
}  # fmt: skip
_FORMATS = (
    "%m/%d/%Y %I:%M:%S %p", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d.%m.%Y %H:%M:%S",
    "%Y/%m/%d %H:%M:%S", "%d/%b/%Y:%H:%M:%S", "%d-%m-%Y %H:%M:%S", "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M", "%Y%m%d%H%M%S", "%d/%m/%Y", "%m/%d/%Y", "%Y%m%d",
)  # fmt: skip


@dataclass
class Proposal:
    """A mapping: its settings in order, and what a reader has to check."""

    layout: dict[str, Any]
    columns: dict[str, Any] = field(default_factory=dict)
    checks: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def table(self) -> dict[str, Any]:
        """The table of `[source]`."""
        return {**self.layout, **self.columns}

    def toml(self) -> str:
        """As it is pasted into a job file."""
        lines = ["[source]"]
        for name, value in self.table.items():
            check = f"  # CHECK: {self.checks[name]}" if name in self.checks else ""
            lines.append(f"{name} = {_toml(value)}{check}")
        lines += [f'# {name} = "…"  # CHECK: which column is it?' for name in self.missing]
        return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        inside = ", ".join(f"{_key(name)} = {_toml(one)}" for name, one in value.items())
        return f"{{ {inside} }}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def propose(layout: dict[str, Any], fields: dict[str, Field]) -> Proposal:
    """Columns → a mapping as far as their names and values tell."""
    proposal = Proposal({name: value for name, value in layout.items() if value is not None})
    chosen = {name: _named(name, fields) for name in _NAMES}
    chosen["event_type"] = chosen["event_type"] or _like_types(fields)
    chosen["event_time"] = chosen["event_time"] or _like_a_time(fields)
    if chosen["session_id"] == chosen["user_id"]:
        proposal.checks["user_id"] = "it is the session that stands for the user"
    for name in ("user_id", "item_id"):
        if chosen[name] is None:
            proposal.missing.append(name)
        else:
            proposal.columns[name] = chosen[name]
    _explode(proposal, chosen)
    _type(proposal, fields, chosen)
    _time(proposal, fields, chosen["event_time"])
    _rest(proposal, fields, chosen)
    return proposal


def _named(name: str, fields: dict[str, Field]) -> str | None:
    """The path whose last part is a usual name of the column; the nearest to the top wins."""
    plain: dict[str, str] = {}
    for path in sorted(fields, key=lambda one: (one.count(".") + one.count("[]"), len(one))):
        parts = [re.sub(r"[^a-z0-9]", "", part.lower()) for part in path.split(".")]
        plain.setdefault(parts[-1], path)
        plain.setdefault("".join(parts[-2:]), path)  # user.id is a userid
    return next((plain[word] for word in _NAMES[name] if word in plain), None)


def _like_types(fields: dict[str, Field]) -> str | None:
    """The first column with few words, half of which are usual names of events."""
    for path, one in fields.items():
        words = list(one.values)
        if 0 < len(words) <= 30 and 2 * sum(bool(_meaning(word)) for word in words) >= len(words):
            return path
    return None


def _like_a_time(fields: dict[str, Field]) -> str | None:
    """The first column whose values can only be times."""
    for path, one in fields.items():
        texts = list(one.values)[:50]
        like = texts and all(re.search(r"\d{10}|\d[-/.]\d", text) for text in texts)
        if like and _time_of(texts)[0] is not None:
            return path
    return None


def _explode(proposal: Proposal, chosen: dict[str, str | None]) -> None:
    lists = [path.rpartition("[]")[0] for path in chosen.values() if path and "[]" in path]
    if lists:
        longest = max(lists, key=len)
        parts = longest.split("[]")
        columns = ["[]".join(parts[: n + 1]) for n in range(len(parts))]
        proposal.columns["explode"] = columns[0] if len(columns) == 1 else columns


def _type(proposal: Proposal, fields: dict[str, Field], chosen: dict[str, str | None]) -> None:
    path = chosen["event_type"]
    words = list(fields[path].values) if path else []
    if path is None or len(words) > 100:
        rated = chosen["value"] and "rating" in chosen["value"].lower()
        proposal.columns["event_type"] = {"constant": "rating" if rated else "view"}
        proposal.checks["event_type"] = "no column says it; what are these events?"
        return
    known = {word: meant for word in words if (meant := _meaning(word))}
    proposal.columns["event_type"] = {"column": path, "map": known}
    left = [word for word in words if word not in known]
    if left:
        shown = ", ".join(repr(word) for word in left[:5]) + (", …" if len(left) > 5 else "")
        proposal.checks["event_type"] = f"not listed, so no event: {shown}"


def _meaning(word: str) -> str | None:
    lower = word.lower()
    return next((kind for kind, words in _WORDS.items() if lower in words), None)


def _time(proposal: Proposal, fields: dict[str, Field], path: str | None) -> None:
    if path is None:
        proposal.missing.append("event_time")
        return
    value, check = _time_of(list(fields[path].values)[:200])
    if value is None:
        proposal.missing.append("event_time")
        proposal.checks["event_time"] = check
        return
    proposal.columns["event_time"] = {"column": path, **value}
    if check:
        proposal.checks["event_time"] = check


def _time_of(texts: Sequence[str]) -> tuple[dict[str, Any] | None, str]:
    """Texts of times → (unit or format and zone, what is to be checked)."""
    if texts and all(re.fullmatch(r"-?\d{9,}(\.\d+)?", text) for text in texts):
        size = abs(float(texts[len(texts) // 2]))
        unit = "s" if size < 1e11 else "ms" if size < 1e14 else "us" if size < 1e17 else "ns"
        return {"unit": unit}, "the unit, by the size of the numbers"
    array = pa.array(texts, pa.string())
    for pattern in ("iso", *_FORMATS):
        for zone in (None, "UTC"):
            if pattern != "iso" and zone is None:
                continue
            how = {"format": pattern, **({"zone": zone} if zone else {})}
            times, _ = as_time(array, Value.model_validate({"column": "x", **how}))
            if len(texts) and times.null_count * 20 <= len(texts):
                return how, _unsure(pattern, texts) if zone else ""
    return None, "the form of its times is not known"


def _unsure(pattern: str, texts: Sequence[str]) -> str:
    """What a text's time does not say; also which comes first, where no day is beyond 12."""
    parts = [re.match(r"(\d+)[-/.](\d+)[-/.]\d{4}", text) for text in texts]
    pairs = [(int(part[1]), int(part[2])) for part in parts if part]
    both = pattern != "iso" and pairs and all(max(pair) <= 12 for pair in pairs)
    first = "whether the day or the month is first, and " if both else ""
    return f"{first}the zone: the file does not state it"


def _rest(proposal: Proposal, fields: dict[str, Field], chosen: dict[str, str | None]) -> None:
    if path := chosen["dwell_ms"]:
        ms = path.lower().endswith("ms") or "millis" in path.lower()
        proposal.columns["dwell_ms"] = {"column": path, "unit": "ms" if ms else "s"}
        proposal.checks["dwell_ms"] = "the unit, and that it is the time spent on the item"
    if path := chosen["value"]:
        proposal.columns["value"] = {"column": path, **_money(fields[path])}
    for name in ("session_id", "platform"):
        if chosen[name]:
            proposal.columns[name] = chosen[name]
    identity = chosen["event_id"]
    if identity and _unique(fields[identity]):
        several = "explode" in proposal.columns
        proposal.columns["event_id"] = f"{{{identity}}}|{{$ordinal}}" if several else identity


def _money(field_: Field) -> dict[str, Any]:
    texts = pa.array(list(field_.values)[:200], pa.string())
    signs = pc.any(pc.match_substring_regex(texts, r"\p{Sc}")).as_py()
    return {"currency": True} if signs else {}


def _unique(field_: Field) -> bool:
    return not field_.nulls and all(count == 1 for count in field_.values.values())
