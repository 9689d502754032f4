"""Vocabularies from which titles and texts are drawn: one per category and style.

Content is informative on purpose: an item's words come mostly from its own
category and style, so a model that reads them can place an item nobody has seen.
"""

__all__ = ["CATEGORIES", "COMMON", "PLACES", "SHOP", "STYLES", "VOCABULARY"]

STYLES: dict[str, str] = {
    "quick": "short simple easy daily brief handy minute tip",
    "deep": "essay history detailed expert long study archive masterclass",
    "playful": "funny silly challenge prank surprise party cartoon joke",
}
"""Each category is told in three styles; a topic is a category and a style."""

_WORDS: dict[str, str] = {
    "news": "election parliament budget minister border treaty protest court reporter headline "
    "economy inflation strike summit vote crisis senate mayor",
    "sport": "match goal league striker referee stadium sprint medal tennis cycling coach keeper "
    "final penalty marathon derby transfer rowing",
    "music": "guitar album concert drummer melody chorus vinyl piano festival singer remix bass "
    "orchestra rhythm choir tour ballad synth",
    "film": "director scene trailer actor thriller screenplay premiere camera sequel cinema script "
    "drama stunt villain casting montage score noir",
    "food": "recipe oven noodles pepper dough kitchen soup garlic spice dessert roast flavour "
    "vegetable bakery grill sauce picnic breakfast",
    "travel": "island harbour train hostel map desert coast passport mountain temple ferry market "
    "village sunset trail canyon lagoon backpack",
    "science": "galaxy protein fossil reactor telescope climate genome particle ocean volcano "
    "laboratory orbit neuron enzyme asteroid theory glacier magnet",
    "games": "quest puzzle console dungeon level boss arcade strategy pixel speedrun guild card "
    "dice racing avatar loot tactics shooter",
    "fashion": "jacket fabric runway denim tailor silk sneaker wardrobe pattern dress boutique "
    "vintage leather collar knit designer scarf linen",
    "home": "garden shelf lamp paint sofa carpenter tile window plant storage curtain workshop "
    "balcony drill cabinet lawn rug fence",
    "fitness": "yoga squat stretch muscle plank cardio breathing balance kettlebell posture "
    "pilates treadmill stamina pushup recovery warmup swim hike",
    "books": "novel chapter poem library author memoir detective fable paperback essayist plot "
    "publisher narrator myth saga biography heroine verse",
}

CATEGORIES: tuple[str, ...] = tuple(_WORDS)

SHOP: frozenset[str] = frozenset({"fashion", "home", "games", "books", "fitness"})
"""Categories whose items have a price and can be put into a cart."""

VOCABULARY: tuple[tuple[str, ...], ...] = tuple(
    tuple((words + " " + style).split()) for words in _WORDS.values() for style in STYLES.values()
)
"""Words of topic k = category · len(STYLES) + style."""

_COMMON = (
    "about after again around before behind better between every first from inside more never "
    "new other people really small still story things today together under with world year"
)

COMMON: tuple[str, ...] = tuple(_COMMON.split())

_PLACES = (
    "Aster Birch Cedar Delta Ember Fjord Grove Haven Indigo Juniper Kestrel Lark Meadow North "
    "Opal Pine Quarry River Sable Tundra Umber Vale Willow Yarrow Zephyr Amber Basalt Coral "
    "Dune Echo Flint Heron"
)

PLACES: tuple[str, ...] = tuple(_PLACES.split())
"""First words of series' names, so that episodes of one series share them."""
