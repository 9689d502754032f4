"""The simulated world behaves as its formulas say.

Every tolerance is derived: five standard errors, or a chi-square below its mean
plus eight standard deviations, of what the formula in question predicts.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.simulate import SimulationSpec, simulate
from pipelines.simulate.world.available_items import AvailableItems
from pipelines.simulate.world.behaviour import position_weights
from pipelines.simulate.world.entities import TOPICS, make_catalogue
from pipelines.simulate.world.people_state import PeopleMemory, routine_rule
from pipelines.simulate.world.taste import ou_step
from pipelines.simulate.world.words import CATEGORIES, VOCABULARY

KNOBS = {"events": 30_000, "users": 300, "items": 400, "format": "parquet", "duplicates": 0}


def read(out: Path) -> dict[str, Any]:
    """Events joined with their truth, in order of event time, as numpy columns."""
    events, truth = (
        pq.read_table(out / "events.parquet"),
        pq.read_table(out / "truth/events.parquet"),
    )
    joined = events.drop_columns(["context"]).join(truth, "event_id").sort_by("event_time")
    columns = {n: joined[n].to_numpy(zero_copy_only=False) for n in joined.column_names}
    columns["cause"] = np.array(joined["cause"].to_pylist())
    columns["event_time"] = columns["event_time"].astype("datetime64[ms]").astype(np.int64)
    return columns


@pytest.fixture(scope="module")
def mild(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("mild")
    simulate(out, SimulationSpec.of(**KNOBS))
    return out, read(out)


def chi_square_passes(observed: np.ndarray, expected: np.ndarray) -> bool:
    freedom = len(observed) - 1
    statistic = float(((observed - expected) ** 2 / expected).sum())
    return statistic <= freedom + 8 * math.sqrt(2 * freedom)


def test_clicks_fall_with_position_as_the_curve_says(mild: tuple[Path, dict[str, Any]]) -> None:
    out, events = mild
    fed = events["cause"] == "feed"
    place = events["position"][fed].astype(int)
    kind = events["event_type"][fed]
    shown = np.bincount(place[kind == "impression"], minlength=5)
    clicked = np.bincount(place[kind == "click"], minlength=5)
    # Slates are in random order: what is clicked is shown × looked at × liked, the last alike.
    pull = shown * position_weights(5, 1.0)
    assert chi_square_passes(clicked, pull / pull.sum() * clicked.sum())
    assert clicked[0] / shown[0] > 3 * clicked[4] / shown[4]
    told = json.loads((out / "truth.json").read_text())["position"]
    assert told["impressions"] == shown.tolist()
    assert told["clicks"] == clicked.tolist()


def test_without_bias_positions_are_alike(tmp_path: Path) -> None:
    simulate(tmp_path, SimulationSpec.of(**{**KNOBS, "events": 10_000}, position_bias=0))
    told = json.loads((tmp_path / "truth.json").read_text())["position"]
    shown, clicked = np.array(told["impressions"]), np.array(told["clicks"])
    assert chi_square_passes(clicked, shown / shown.sum() * clicked.sum())


def test_an_ou_step_keeps_the_variance_and_forgets_at_its_rate() -> None:
    rng, n = np.random.default_rng(0), 40_000
    x = rng.standard_normal((n, 1), dtype=np.float32)
    y = ou_step(x, np.full(n, 0.6, np.float32), rng)
    # Of n standard normals: var has standard error √(2/n), a correlation r (1 − r²)/√n.
    assert abs(y.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs(np.corrcoef(x[:, 0], y[:, 0])[0, 1] - 0.6) < 5 * (1 - 0.36) / math.sqrt(n)
    assert np.array_equal(ou_step(x, np.ones(n, np.float32), rng), x)


def turnover(out: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users' first and last logits, `[n, TOPICS]` each, and the days between."""
    tastes = pq.read_table(out / "truth/tastes.parquet").sort_by("time")
    users = np.array(tastes["user_id"].to_pylist())
    logits = np.stack(tastes["logits"].to_numpy())
    days = tastes["time"].to_numpy().astype("datetime64[ms]").astype(np.int64) / 86_400_000
    first = np.unique(users, return_index=True)[1]
    last = len(users) - 1 - np.unique(users[::-1], return_index=True)[1]
    return logits[first], logits[last], days[last] - days[first]


def test_tastes_stand_still_without_drift(tmp_path: Path) -> None:
    simulate(tmp_path, SimulationSpec.of(**{**KNOBS, "events": 5_000}, drift="none"))
    before, after, _ = turnover(tmp_path)
    assert np.allclose(before, after, atol=1e-5)


def test_strong_drift_turns_tastes_at_its_rate(tmp_path: Path) -> None:
    spec = SimulationSpec.of(**KNOBS, drift="strong", demographic_share=0)
    simulate(tmp_path, spec)
    before, after, days = turnover(tmp_path)
    unit = before / spec.taste_scale * (after / spec.taste_scale)
    expected = np.exp(-spec.drift * days)
    # E[x·y] = e^(−drift·Δ) per user and topic. A user's 36 products share 12 category
    # parts, so at worst 12 of them are independent; each varies by at most 2.
    error = math.sqrt(2 / (12 * len(days)))
    assert abs(unit.mean() - expected.mean()) < 5 * error
    assert expected.mean() < 0.5


def test_a_shock_redraws_every_taste(tmp_path: Path) -> None:
    spec = SimulationSpec.of(**KNOBS, drift="none", demographic_share=0, shock=0.5)
    simulate(tmp_path, spec)
    before, after, days = turnover(tmp_path)
    across = days > 0.6 * spec.days  # certainly on both sides of the middle
    unit = (before * after)[across] / spec.taste_scale**2
    assert abs(unit.mean()) < 5 * math.sqrt(2 / (12 * across.sum()))


def test_shelf_draws_by_fame_age_and_fashion() -> None:
    spec = SimulationSpec.of(events=10_000, users=100, items=200)
    items = make_catalogue(spec, np.random.default_rng(0))
    shelf, now = AvailableItems(items), spec.start_ms + 3_600_000
    fashion = np.linspace(-1, 1, TOPICS).astype(np.float32)
    shelf.refresh(now, fashion)
    u = (np.arange(20_000) + 0.5) / 20_000  # a grid: frequencies are exact to one draw
    age = now - items.published
    pull = items.fame * (0.03 + 0.97 * 0.5 ** (age / items.half_life_ms)) * (age >= 0)
    for topic in np.flatnonzero(shelf.open)[:5]:
        share = np.where(items.topic == topic, items.share, 0)
        share += np.where(items.second == topic, 1 - items.share, 0)
        drawn = np.bincount(shelf.draw(np.full(len(u), topic), u), minlength=200) / len(u)
        assert np.allclose(drawn, pull * share / (pull * share).sum(), atol=2 / len(u))
    both = items.share * np.exp(fashion)[items.topic]
    both += (1 - items.share) * np.exp(fashion)[items.second]
    drawn = np.bincount(shelf.draw_popular(u), minlength=200) / len(u)
    # An item stands under two topics: two draws of slack.
    assert np.allclose(drawn, pull * both / (pull * both).sum(), atol=3 / len(u))
    assert shelf.out == (items.published <= now).sum() < 200


def test_the_last_category_alone_says_nothing() -> None:
    rule = routine_rule(np.random.default_rng(3))
    whole = list(range(len(CATEGORIES)))
    assert all(sorted(row) == whole for row in rule.tolist())
    assert all(sorted(column) == whole for column in rule.T.tolist())


def test_a_series_is_resumed_after_something_else() -> None:
    spec = SimulationSpec.of(events=100, users=2, items=100, series_share=1.0)
    items = make_catalogue(spec, np.random.default_rng(1))
    memory, user = PeopleMemory(2, items), np.array([0])
    rng, liked = np.random.default_rng(0), np.array([True])
    begun = np.flatnonzero(items.following >= 0)
    first = begun[0]
    other = begun[items.series[begun] != items.series[first]][0]
    assert memory.waiting(user, 100, rng).tolist() == [-1]
    memory.take(user, np.array([first]), liked=liked)
    assert memory.waiting(user, 100, rng).tolist() == [items.following[first]]
    memory.take(user, np.array([other]), liked=liked)
    waiting = {int(memory.waiting(user, 100, rng)[0]) for _ in range(50)}
    assert waiting == {items.following[first], items.following[other]}
    assert memory.waiting(user, int(items.following[first]), rng)[0] != items.following[first]
    assert memory.had(user, np.array([first])).all()
    assert memory.waiting(np.array([1]), 100, rng).tolist() == [-1]


def test_series_are_followed_in_order(mild: tuple[Path, dict[str, Any]]) -> None:
    out, events = mild
    items = pq.read_table(out / "truth/items.parquet").to_pydict()
    place = {
        i: (s, e)
        for i, s, e in zip(items["item_id"], items["series"], items["episode"], strict=True)
    }
    had: dict[str, set[tuple[int, int]]] = {}
    followed = 0
    taken = np.isin(events["event_type"], ("view", "click"))
    for user, item, cause in zip(
        events["user_id"][taken], events["item_id"][taken], events["cause"][taken], strict=True
    ):
        series, episode = place[item]
        seen = had.setdefault(user, set())
        if cause == "series":
            followed += 1
            assert (series, episode - 1) in seen
        seen.add((series, episode))
    assert followed > 500


def test_what_is_bought_was_in_the_cart_and_looked_at(mild: tuple[Path, dict[str, Any]]) -> None:
    _, events = mild
    earlier: dict[str, set[tuple[str, str]]] = {"seen": set(), "cart": set()}
    bought = 0
    for user, item, kind in zip(
        events["user_id"], events["item_id"], events["event_type"], strict=True
    ):
        if kind == "purchase":
            assert (user, item) in earlier["cart"]
            bought += 1
        elif kind == "cart":
            assert (user, item) in earlier["seen"]
            earlier["cart"].add((user, item))
        elif kind in {"view", "click"}:
            earlier["seen"].add((user, item))
    assert bought > 50


def test_dwell_follows_taste_and_length(mild: tuple[Path, dict[str, Any]]) -> None:
    out, events = mild
    items = pq.read_table(out / "items.parquet")
    length = dict(zip(items["item_id"].to_pylist(), items["duration_ms"].to_pylist(), strict=True))
    known = ~np.isnan(events["dwell_ms"].astype(float)) & ~events["noise"].astype(bool)
    dwell = events["dwell_ms"][known].astype(float)
    duration = np.array([length[i] for i in events["item_id"][known]], dtype=float)
    affinity = events["affinity"][known].astype(float)
    assert (dwell <= duration).all()
    # Completion is a logistic of .2 + .8 · affinity + noise of .8: its logit's slope says so.
    part = np.clip(dwell / duration, 1e-4, 1 - 1e-4)
    slope, base = np.polyfit(affinity, np.log(part / (1 - part)), 1)
    error = 0.8 / (affinity.std() * math.sqrt(len(affinity)))
    assert abs(slope - 0.8) < 5 * error + 0.02  # 0.02: dwell is cut to whole ms and from below
    assert abs(base - 0.2) < 0.1
    assert np.corrcoef(np.log(duration), np.log(dwell))[0, 1] > 0.5


def test_bots_and_accidents_are_short_and_told(mild: tuple[Path, dict[str, Any]]) -> None:
    out, events = mild
    bots = pq.read_table(out / "truth/users.parquet")
    bots = set(np.array(bots["user_id"].to_pylist())[bots["bot"].to_numpy(zero_copy_only=False)])
    noise = events["noise"].astype(bool)
    taken = np.isin(events["event_type"], ("view", "click"))
    assert set(events["user_id"][events["cause"] == "bot"]) <= bots
    assert np.array_equal(noise, np.isin(events["cause"], ("bot", "accident")))
    assert np.nanmax(events["dwell_ms"][noise & taken].astype(float)) <= 1_500
    # Noise reacts to nothing.
    assert set(events["event_type"][noise]) <= {"impression", "view", "click"}
    assert 0 < (noise & taken).sum() < 0.2 * taken.sum()


def test_words_tell_the_topic(mild: tuple[Path, dict[str, Any]]) -> None:
    out, _ = mild
    items, truth = pq.read_table(out / "items.parquet"), pq.read_table(out / "truth/items.parquet")
    texts = zip(items["title"].to_pylist(), items["text"].to_pylist(), strict=True)
    words = [set(f"{title} {text}".lower().split()) for title, text in texts]
    overlap = np.array([[len(w & set(v)) for v in VOCABULARY] for w in words])
    guess, topic = overlap.argmax(axis=1), truth["topic"].to_numpy()
    # Of its words seven to ten are its own, three another's. Of its own 18/26 name the
    # category and the rest the style; none does that with probability .08 or less.
    assert (guess // 3 == topic // 3).mean() > 0.9
    assert (guess == topic).mean() > 0.7
    named = [CATEGORIES[t // 3] for t in truth["topic"].to_pylist()]
    assert all(n in c for n, c in zip(named, items["categories"].to_pylist(), strict=True))


def test_episodes_share_their_series_name(mild: tuple[Path, dict[str, Any]]) -> None:
    out, _ = mild
    items = pq.read_table(out / "items.parquet")["title"].to_pylist()
    truth = pq.read_table(out / "truth/items.parquet").to_pydict()
    names: dict[int, set[str]] = {}
    for title, series in zip(items, truth["series"], strict=True):
        if series >= 0:
            names.setdefault(series, set()).add(title.split(", episode")[0])
    assert len(names) > 5
    assert all(len(name) == 1 for name in names.values())
    assert len({next(iter(name)) for name in names.values()}) == len(names)


def test_users_come_and_their_country_shows(mild: tuple[Path, dict[str, Any]]) -> None:
    out, events = mild
    users = pq.read_table(out / "users.parquet").to_pylist()
    missing = sum(len(user["attributes"]) < 2 for user in users)
    # Each of two attributes is on record with probability .9.
    assert abs(missing - 300 * 0.19) < 5 * math.sqrt(300 * 0.19 * 0.81)
    half = np.median(events["event_time"])
    first = dict(zip(events["user_id"][::-1], events["event_time"][::-1], strict=True))
    assert sum(t > half for t in first.values()) > 20
